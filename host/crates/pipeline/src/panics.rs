//! A panic is a bug of forebay's own, and costs the work that it happened in: nothing beside it, and never the process.
//!
//! Whatever runs apart (a job on a worker, an effect, a stream) goes through [`caught`] or [`caught_in`], so that who waits
//! for its answer gets an error with the panic's message instead of waiting for ever.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use forebay_model::{Error, Result};

/// Runs a job; where it panics, that is an error of class bug. What the job shared must bear being left half done.
///
/// # Errors
/// Those of the job, and its panic.
pub fn caught_in<T>(job: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

/// The same for work that waits.
///
/// # Errors
/// Those of the work, and its panic.
pub async fn caught<T, E: From<Error>>(
    work: impl Future<Output = std::result::Result<T, E>>,
) -> std::result::Result<T, E> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(panic.as_ref()).into())))
    })
    .await
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Error::bug(format!("forebay panicked: {message}"))
        .with_hint("this is a bug of forebay: please report it with the log")
}

#[cfg(test)]
#[expect(clippy::panic, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_before_or_after_a_wait_is_an_error_with_its_message() {
        let error = caught(async {
            tokio::task::yield_now().await;
            let number = std::hint::black_box(7);
            if number == 7 {
                panic!("at row {number}");
            }
            Ok::<_, Error>(())
        });
        assert_eq!(error.await.expect_err("panics").to_string(), "forebay panicked: at row 7");
        assert_eq!(caught(async { Ok::<_, Error>(3) }).await.expect("works"), 3);
    }
}
