//! Faults on request, for tests; releases have none.
//!
//! `FOREBAY_FAILPOINT=after_commit` ends the process, as a kill would, when it comes to the point of that name, and
//! `after_commit@3` when it comes there for the third time. `panic:in_refine` panics there instead.

/// Does what `FOREBAY_FAILPOINT` asks for at the point of this name.
pub(crate) fn failpoint(name: &str) {
    #[cfg(debug_assertions)]
    asked::reach(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod asked {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Fault {
        point: String,
        panics: bool,
        /// The time that counts; every one where none is said.
        at: Option<u32>,
    }

    static FAULT: LazyLock<Option<Fault>> =
        LazyLock::new(|| std::env::var("FOREBAY_FAILPOINT").ok().map(|text| Fault::read(&text)));
    static REACHED: AtomicU32 = AtomicU32::new(0);

    impl Fault {
        fn read(text: &str) -> Self {
            let (panics, text) = text.strip_prefix("panic:").map_or((false, text), |text| (true, text));
            let (point, at) = text.split_once('@').map_or((text, None), |(point, at)| (point, at.parse().ok()));
            Self { point: point.to_owned(), panics, at }
        }
    }

    #[expect(clippy::panic, reason = "the fault that was asked for")]
    pub(super) fn reach(name: &str) {
        let Some(Fault { point, panics, at }) = FAULT.as_ref().filter(|fault| fault.point == name) else { return };
        let time = REACHED.fetch_add(1, Ordering::Relaxed) + 1;
        if at.is_some_and(|at| at != time) {
            return;
        }
        if *panics {
            panic!("failpoint {point}");
        }
        std::process::abort();
    }

    #[cfg(test)]
    mod tests {
        use super::Fault;

        #[test]
        fn a_fault_is_a_point_a_way_and_a_time() {
            let read = |text| {
                let Fault { point, panics, at } = Fault::read(text);
                (point, panics, at)
            };
            assert_eq!(read("after_commit"), ("after_commit".to_owned(), false, None));
            assert_eq!(read("after_commit@3"), ("after_commit".to_owned(), false, Some(3)));
            assert_eq!(read("panic:in_refine@1"), ("in_refine".to_owned(), true, Some(1)));
        }
    }
}
