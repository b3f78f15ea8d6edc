//! How often each kind of thing came to pass: what a seed can draw and never does proves nothing.

macro_rules! tally {
    ($($(#[doc = $doc:literal])+ $kind:ident,)+) => {
        /// How often each kind of thing came to pass. What is added here is added up, told and must come to pass.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub(crate) struct Tally {
            $($(#[doc = $doc])+ pub(crate) $kind: u64,)+
        }

        impl Tally {
            /// Each kind by its name.
            pub(crate) fn kinds(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($kind), self.$kind),)+]
            }
        }

        impl std::ops::AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$kind += other.$kind;)+
            }
        }
    };
}

tally! {
    // Processes.
    /// That ran until they were done.
    lives_once,
    /// That ran until they were told to stop.
    lives_stopped,
    /// That died.
    deaths,
    /// That ended with an error which they may end with.
    gave_up,
    /// Ledgers that were lost, and rebuilt.
    rebuilt,
    /// Of these, with everything refined again.
    rebuilt_refining_all,

    // What arrives.
    /// Objects that were not there.
    object_new,
    /// Other versions of objects that replace.
    object_replaced,
    /// Other versions of objects that append.
    object_appended,
    /// Objects that grew.
    object_grown,
    /// Records of a partition.
    records_appended,
    /// Records that are no JSON.
    record_malformed,
    /// Records that are no object.
    record_no_object,
    /// Records without the field that the rule needs.
    record_n_lacks,
    /// Records whose needed field is null.
    record_n_null,
    /// Records with a field whose type widens.
    record_v_float,
    /// Records with a field whose type does not widen.
    record_v_text,
    /// Records with a field that few have.
    record_new_field,

    // What people and their machines do.
    /// Objects that cannot be opened for a while.
    spoiled_open,
    /// Objects that break off while they are read.
    spoiled_read,
    /// Configs that work.
    submitted,
    /// Configs whose revision fails at every segment.
    submitted_broken,
    /// Configs that do not bind.
    submitted_refused,
    /// Former revisions that are to come back.
    rollback_asked,
    /// Of these, such as came back.
    rolled_back,
    /// Pipelines that are to pause, or to go on.
    pause_asked,
    /// That paused.
    paused,
    /// That went on.
    resumed,
    /// Revisions that are to be compared.
    shadow_asked,
    /// Of these, such as went into shadow.
    shadowed,
    /// Of these, such as failed a segment.
    shadow_refused,
    /// Of these, such as were taken.
    shadow_approved,
    /// Of these, such as were not.
    shadow_cancelled,
    /// Of these, such as nobody decided on.
    shadow_left,
    /// Tables that are maintained.
    maintained,
    /// Maintenance that made few files of many while a host ran.
    compacted,
    /// Maintenance that removed what a table does not need while a host ran.
    vacuumed,
    /// Sweeps of the zone.
    swept,
    /// Sweeps that removed something while a host ran.
    orphans_removed,
    /// Approvals of what is held.
    approved,
    /// Changes that were held and are approved.
    changes_approved,
    /// Wishes that rejects be tried again.
    heal_asked,
    /// Wishes that segments be refined again.
    replay_asked,
    /// Of these, under a revision that was asked for.
    replay_under,
    /// Segments whose rejects were tried again.
    heal_begun,
    /// Records that were rejected and are no more.
    records_healed,
    /// Segments that were refined again as a whole.
    replay_begun,
    /// Times that a pipeline was given what had landed before it began.
    history_given,
    /// Times that a pipeline was given what failed before.
    failed_given,

    // What pipelines report.
    /// Segments that failed.
    segment_failed,
    /// Revisions that did not bind.
    not_bound,
    /// What failed and is tried again.
    retried,
    /// Loads that are done.
    loaded,

    // Faults of stores and sources.
    /// Calls that failed and did nothing.
    fault_refused,
    /// Calls that failed until a person looks.
    fault_operator,
    /// Calls that were done, and failed.
    fault_answer_lost,
    /// Objects whose body was read in part only.
    fault_torn,
    /// Deaths before a call.
    fault_crash_before,
    /// Deaths after a call.
    fault_crash_after,
    /// Calls that fail several times in a row.
    fault_burst,
    /// Calls that took their time.
    slow,
    /// Staged files that were gone at their commit.
    staged_file_gone,
    /// Commits that the warehouse refused for good.
    refused,
    /// Deaths that left half of an object.
    half_object,
    /// Deaths that left half of an envelope.
    half_envelope,
    /// Deaths that left an entry of the journal torn.
    torn,
}
