//! The contract of `ports::Ledger`: what the trait says, sentence by sentence, for each implementation.

mod again;
mod catalog;
mod failed;
mod history;
mod intake;
mod rebuilt;
mod refine;
mod side;
pub(crate) mod support;

use forebay_ledger::{MemoryLedger, OpenMode, PostgresLedger, SqliteLedger};
use forebay_model::ports::Ledger;

use super::support::{CountingRandom, SteeredClock};
use crate::postgres::Schema;

/// A new ledger, and the folder that it lives in.
type Made = (Box<dyn Ledger>, Option<tempfile::TempDir>);

async fn memory() -> Made {
    (Box::new(MemoryLedger::new(&CountingRandom::new(1))), None)
}

async fn sqlite() -> Made {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("forebay.db");
    let ledger = SqliteLedger::open(&path, OpenMode::Create, &SteeredClock::new(), &CountingRandom::new(1)).await;
    (Box::new(ledger.expect("a new ledger")), Some(folder))
}

/// A ledger in a schema of its own; `None` where there is no server.
async fn postgres() -> Option<(PostgresLedger, Schema)> {
    let schema = Schema::new()?;
    let address =
        forebay_postgres::PostgresAddress::parse(&schema.url(), forebay_postgres::Keeps::Ledger).expect("a url");
    let ledger = PostgresLedger::open(&address, OpenMode::Create, &SteeredClock::new(), &CountingRandom::new(1)).await;
    Some((ledger.expect("a new ledger"), schema))
}

/// Makes a test of each function, for each implementation.
macro_rules! contract {
    ($($room:ident: $($name:ident),+ $(,)?;)+) => {
        mod in_memory {
            $($(#[tokio::test] async fn $name() {
                let (ledger, _folder) = super::memory().await;
                super::$room::$name(ledger.as_ref()).await;
            })+)+
        }
        mod in_sqlite {
            $($(#[tokio::test] async fn $name() {
                let (ledger, _folder) = super::sqlite().await;
                super::$room::$name(ledger.as_ref()).await;
            })+)+
        }
        mod in_postgres {
            $($(#[tokio::test] async fn $name() {
                let Some((ledger, _schema)) = super::postgres().await else { return };
                super::$room::$name(&ledger).await;
            })+)+
        }
    };
}

contract! {
    intake:
        a_segment_is_listed_once_and_read_back_whole,
        a_repeated_landing_gives_the_same_answer,
        another_attempt_at_the_same_part_is_known,
        a_partition_advances_only_from_where_it_stands,
        a_landing_is_all_or_nothing,
        a_broken_landing_is_refused,
        a_replacing_version_names_the_segments_it_replaces,
        tailed_parts_follow_one_another,
        the_latest_version_of_each_key_is_given_in_order,
        landings_are_unjournalled_until_marked;
    refine:
        work_is_in_the_order_of_landing,
        each_pipeline_has_its_own_work,
        a_failed_segment_waits_until_it_is_due,
        a_success_clears_the_failure,
        what_a_revision_refined_is_known_the_newest_first,
        versions_do_not_overtake_one_another,
        segments_that_replace_come_together_beyond_the_limit,
        a_group_only_goes_forward,
        a_group_that_the_warehouse_refuses_is_withdrawn,
        what_a_withdrawn_group_had_loaded_is_removed_by_the_next,
        a_group_without_loads_is_done_at_once,
        a_group_must_be_work,
        a_broken_group_is_refused,
        work_finds_what_is_behind_many,
        tables_of_names_former_tables,
        one_host_at_a_time;
    again:
        rejected_records_are_healed_once_under_each_revision,
        a_heal_adds_to_what_there_is,
        what_is_known_to_have_none_is_not_asked_for,
        a_replay_is_of_the_whole_segment,
        a_replay_is_done_under_the_revision_that_was_asked_for,
        a_withdrawn_replay_under_a_revision_is_still_to_be_done,
        what_fails_again_waits_and_stays_loaded,
        what_is_asked_for_while_it_is_refined_is_done_afterwards,
        what_is_asked_for_can_be_taken_back,
        a_version_that_is_replaced_is_not_refined_again,
        a_heal_that_is_withdrawn_is_refined_whole;
    failed:
        what_failed_comes_the_newest_first_beside_what_nothing_was_made_of,
        segments_that_come_together_have_failed_where_one_of_them_did,
        a_version_that_failed_keeps_the_others_in_their_order,
        a_paused_pipeline_is_given_nothing_that_failed,
        what_failed_is_found_behind_many;
    history:
        what_had_landed_before_a_pipeline_began_is_its_history_once,
        a_pipeline_that_has_refined_anything_has_no_history,
        versions_do_not_overtake_one_another_across_the_beginning,
        history_that_fails_waits_and_is_done_once;
    side:
        a_side_refines_what_was_chosen_and_nothing_else,
        a_side_that_is_dropped_leaves_nothing,
        what_a_side_half_loaded_is_replaced_whatever_is_taken_back;
    rebuilt:
        what_was_rebuilt_is_all_there,
        what_is_refined_again_replaces_its_rows,
        versions_that_were_replaced_are_no_work,
        rows_of_a_segment_that_lands_again_are_replaced,
        only_an_empty_ledger_is_filled;
    catalog:
        a_schema_grows_by_compare_and_swap,
        held_changes_keep_their_first_time_and_approval,
        modules_and_files_are_remembered,
        assets_are_recorded_once_under_each_name,
        revisions_are_numbered_once,
        one_deployment_is_active,
        what_was_rolled_back_is_cancelled,
        a_shadow_keeps_its_plan_and_what_came_of_it,
        another_revision_ends_a_shadow,
        a_paused_pipeline_is_given_no_work,
        requests_are_answered_once,
        the_documented_tables_have_their_rows;
}
