//! The engine against a Hub with faults, in this process and as the real binary.
//!
//! The 25 cases of `huggingface_hub`'s own tests that are worth having, and what covers each of them here:
//!
//! 1. three failures in the middle of a body: `faults::a_lost_connection_is_gone_on_with`, `faults::tries_are_counted_anew_…`
//! 2. ranges advance with each try: the same, `ranges::lost_connections_refusals_and_short_bodies_cost_only_their_ranges`
//! 3. 200 for a range: `faults::a_server_without_ranges_…`, `ranges::a_server_that_ignores_ranges_…`, `…_begins_to_ignore_ranges_…`
//! 4. fewer bytes than promised: `faults::a_short_body_is_gone_on_with_and_then_reported`
//! 5. progress never over 100 %: `ranges::assert_whole` in every test there, `faults::more_bytes_than_promised_are_cut_off`
//! 6. no length in the answer: `happy::a_body_without_a_length_is_fine` (sizes come from the listing; there is no HEAD)
//! 7. other bytes than promised, LFS and not: `faults::one_flipped_bit_…`, `ranges::a_hundred_wrong_bits_…`
//! 8. a stale part that looks complete: `ranges::a_journal_that_lies_…`, `faults::staged_bytes_that_rotted_…`
//! 9. nothing incomplete is left: `rig::Rig::assert_published`, in nearly every test
//! 10. what may not be written: `worker::a_read_only_volume_is_named`, `worker::an_unwritable_volume_…`
//! 11. the umask: `worker::the_umask_does_not_matter`
//! 12. a renamed repo: `happy::redirects_on_the_hub_itself_are_followed`
//! 13. a gated repo: `refusals::a_gated_model_says_where_the_licence_is`
//! 14. bytes that are there already, right or wrong: `happy::a_changed_choice_…`, `happy::other_bytes_at_the_same_commit_…`
//! 15. another revision, or the same again: `happy::a_second_run_asks_nobody`, `happy::a_moved_branch_…`
//! 16. awful file names: `fakehub::tiny_model` has one, so every test
//! 17. unsafe file names: `refusals::hostile_names_are_refused_with_the_name`, and the units of `engine::plan` and `ident::path`
//! 18. several writers at a time: `engine::volume`'s units; there are no links to race for
//! 19. etags weak, bare and quoted: `fakehub::body` sends all three forms, and nobody may care
//! 20. a file that is not there; a file that two revisions share: `refusals::a_listed_file_…`, `happy::a_revision_has_its_own_…`
//! 21. a reference that moves: `happy::a_moved_branch_replaces_the_entry_and_keeps_the_old_snapshot`
//! 22. an incomplete snapshot; a redacted Xet hash: `volume::a_missing_file_…`; `fakehub` lists nothing but redacted ones
//! 23. 429 with `RateLimit` and Retry-After: `refusals::a_pause_is_kept_and_then_reported`, and the units of `hub::headers`
//! 24. verification of what is there: `verify`, and the units of `engine::hash`
//! 25. two-hop caches: no other tool's cache is read or written here; Xet's fall-back to HTTP: HTTP is all there is
#![allow(clippy::unwrap_used, clippy::panic, clippy::format_collect, reason = "a test that cannot go on shall panic")]

#[path = "../fakehub/mod.rs"]
mod fakehub;

mod faults;
mod happy;
mod kill;
mod listing;
mod network;
mod ranges;
mod refusals;
mod rig;
mod verify;
mod volume;
mod worker;
