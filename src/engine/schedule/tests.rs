use super::*;
use proptest::prelude::*;

const CUT: Cut = Cut { piece_bytes: 100, half_bytes: 10 };

fn fresh(sizes: &[u64]) -> Schedule {
    Schedule::new(CUT, sizes.iter().enumerate().map(|(number, size)| (number, *size, Coverage::default())))
}

/// The next piece for somebody without any patience.
fn next(schedule: &mut Schedule) -> Option<PieceId> {
    schedule.next(Instant::now(), Duration::ZERO)
}

fn span(schedule: &Schedule, id: PieceId) -> (usize, u64, u64) {
    let (file, _, left) = schedule.piece(id).unwrap();
    (file, left.start, left.end)
}

#[test]
fn pieces_come_in_order_and_then_halves_of_the_longest() {
    let mut schedule = fresh(&[150, 20]);
    let ids: Vec<_> = (0..4).map(|_| next(&mut schedule).unwrap()).collect();
    assert_eq!(span(&schedule, ids[1]), (0, 100, 150));
    assert_eq!(span(&schedule, ids[2]), (1, 0, 20));
    assert_eq!((span(&schedule, ids[0]), span(&schedule, ids[3])), ((0, 0, 50), (0, 50, 100)));
    // The one that was halved ends where the other begins, however much more its server sends.
    assert_eq!(schedule.advance(ids[0], 70), Some(Step { at: 0, bytes: 50, is_last: true }));
    assert_eq!(schedule.advance(ids[0], 20), None);
}

#[test]
fn only_a_piece_that_would_take_long_is_halved() {
    let patience = Duration::from_millis(100);
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let mut schedule = fresh(&[100]);
    let one = schedule.next(start, patience).unwrap();
    // Nothing came, but not for long.
    assert_eq!(schedule.next(after(99), patience), None);
    // The rest would take 50 ms.
    schedule.advance(one, 50);
    assert_eq!(schedule.next(after(50), patience), None);
    // The rest would take 200 ms, then.
    let other = schedule.next(after(200), patience).unwrap();
    assert_eq!((span(&schedule, one), span(&schedule, other)), ((0, 50, 75), (0, 75, 100)));
}

#[test]
fn what_is_there_is_not_fetched() {
    let mut there = Coverage::default();
    there.insert(Span::new(10, 30));
    let mut schedule = Schedule::new(CUT, [(7, 40, there)]);
    let ids = [next(&mut schedule).unwrap(), next(&mut schedule).unwrap()];
    assert_eq!((span(&schedule, ids[0]), span(&schedule, ids[1])), ((7, 0, 10), (7, 30, 40)));
    assert_eq!(next(&mut schedule), None);
}

#[test]
fn an_empty_file_is_made_once_and_needs_no_connection() {
    let mut schedule = fresh(&[0]);
    assert_eq!((next(&mut schedule), schedule.next_empty(), schedule.next_empty()), (None, Some(0), None));
}

#[test]
fn without_ranges_one_connection_has_everything_that_is_missing() {
    let mut schedule = fresh(&[300, 50]);
    let [one, two] = [next(&mut schedule).unwrap(), next(&mut schedule).unwrap()];
    schedule.advance(one, 30);
    assert_eq!(schedule.make_single(two), Some(30));
    assert_eq!((schedule.piece(one), span(&schedule, two)), (None, (0, 30, 300)));
    assert_eq!(schedule.make_single(one), None);
    // The other file has all its freedom.
    let other = next(&mut schedule).unwrap();
    assert_eq!(span(&schedule, other), (1, 0, 50));
}

#[test]
fn a_file_can_be_started_over() {
    let mut schedule = fresh(&[150]);
    for bytes in [100, 50] {
        let id = next(&mut schedule).unwrap();
        assert!(schedule.advance(id, bytes).unwrap().is_last);
    }
    schedule.refill(0);
    let again = next(&mut schedule).unwrap();
    assert_eq!(span(&schedule, again), (0, 0, 100));
}

#[derive(Debug, Clone)]
enum Act {
    Next,
    Advance(usize, u64),
    Single(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => Just(Act::Next),
        5 => (0_usize..8, 1_u64..90).prop_map(|(piece, bytes)| Act::Advance(piece, bytes)),
        1 => (0_usize..8).prop_map(Act::Single),
    ];
    prop::collection::vec(act, 0..80)
}

proptest! {
    #[test]
    fn every_byte_is_handed_out_once(sizes in prop::collection::vec(0_u64..400, 1..4), acts in acts()) {
        let mut schedule = fresh(&sizes);
        let mut got: Vec<Coverage> = vec![Coverage::default(); sizes.len()];
        let mut twice = vec![false; sizes.len()];
        let mut ids = Vec::new();
        // After the random part, one connection finishes everything.
        let acts = acts.into_iter().chain((0..200).flat_map(|n| [Act::Next, Act::Advance(n % 8, 90)]));
        for act in acts {
            ids.retain(|id| schedule.piece(*id).is_some());
            match act {
                Act::Next if ids.len() < 8 => ids.extend(next(&mut schedule)),
                Act::Advance(one, bytes) if !ids.is_empty() => {
                    let id = ids[one % ids.len()];
                    let (file, ..) = schedule.piece(id).unwrap();
                    if let Some(Step { at, bytes, .. }) = schedule.advance(id, bytes) {
                        let taken = Span::new(at, at + bytes);
                        let missing: u64 = got[file].gaps(taken).iter().map(|gap| gap.len()).sum();
                        // A server without ranges may send again what another connection had fetched.
                        prop_assert!(missing == bytes || twice[file]);
                        got[file].insert(taken);
                    }
                }
                Act::Single(one) if !ids.is_empty() => {
                    let id = ids[one % ids.len()];
                    twice[schedule.piece(id).unwrap().0] = true;
                    prop_assert!(schedule.make_single(id).is_some());
                }
                _ => {}
            }
        }
        prop_assert!(schedule.is_idle());
        for (size, got) in sizes.iter().zip(&got) {
            prop_assert_eq!((got.frontier(), got.end()), (*size, *size));
        }
    }
}
