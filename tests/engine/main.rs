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
//!
//! What servers and other clients were seen to do wrong, and what covers it:
//!
//! * redirects: `happy::redirects_on_the_hub_itself_are_followed`, `happy::a_file_that_moved_…` (a token goes along),
//!   `happy::the_token_stays_at_home` (it does not; and the length of a redirect is not the file's), `happy::awful_names_…`
//! * listings in pages, in circles, of other hosts: `limits::the_requests_are_pages_and_files`, `refusals::a_listing_that_goes_…`
//! * a revision with slashes, and no address without one: `happy::a_revision_has_its_own_entry_key_and_view`
//! * signatures that expire, and refusals that only look like it: `ranges::a_signature_that_expires_…`, `ranges::a_network_that_…`
//! * compressed bodies, which make servers forget ranges: `faults::a_compressed_body_is_refused`, `happy::the_requests_are_few_…`
//! * a wrong range, 416, and no bytes to ask for: `faults::another_range_…`, `ranges::lost_connections_…`, `fakehub::tiny_model`
//! * no single answer for very large files: `ranges::the_hub_is_asked_once_…` (nothing longer than a piece is asked for)
//! * 401 for what is not there, 404 without a code, gates, scopes: `refusals`
//! * pauses: `refusals::a_pause_is_kept_…`, `refusals::a_pause_holds_for_all_connections`
//! * silence at each stage: `network::a_connection_that_does_not_stand_…`, `network::an_answer_that_does_not_begin_…`,
//!   `faults::silence_is_noticed`; bytes that drip: `faults::a_server_that_drips_is_given_up`
//! * each connection slowed down: `limits::slow_connections_are_answered_with_more_of_them`
//! * HTTP/2, and so every range on one connection: the fake Hub with TLS offers it, and every test of `network` with it would fail
//! * proxies and certificates: `network`
//! * error pages kept as files: `faults::a_page_for_people_instead_of_a_file_is_never_published`
//! * a size taken for a proof: `faults::one_flipped_bit_…`; an error that costs a file: `faults::a_later_attempt_goes_on_…`
//! * a crash that costs everything: `kill`; folders and empty files left out: `rig::Rig::assert_published`
#![allow(clippy::unwrap_used, clippy::panic, clippy::format_collect, reason = "a test that cannot go on shall panic")]

#[path = "../fakehub/mod.rs"]
mod fakehub;

mod check;
mod faults;
mod happy;
mod inventory;
mod kill;
mod limits;
mod listing;
mod network;
mod policy;
mod ranges;
mod refusals;
mod resolve;
mod rig;
mod updates;
mod verify;
mod volume;
mod worker;
