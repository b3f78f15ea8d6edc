//! The worker threads: decoding, rules and encoding run here, never on the threads that do I/O.
//!
//! Plain threads, for a guest is called synchronously, one a core. As many again are for history (`refine::lanes`), and the system lets
//! them run where the others leave it time, so a segment of production finds a thread, and a core, whatever is replayed or tried again;
//! they stand still where production would feel them all the same ([`precedence`](crate::precedence)).
//! A job that panics fails its own work with the message; the thread goes on. Where jobs run is an [`Executor`]'s business, so that a
//! simulation can run them in an order of its own.

use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use forebay_model::{Error, Result};
use tokio::sync::oneshot;

use crate::panics::caught_in;
use crate::precedence::Precedence;

/// One piece of work.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs.
pub trait Executor: Send + Sync + std::fmt::Debug {
    /// Takes a job, to be run soon, and returns at once.
    ///
    /// # Errors
    /// Class bug, where nobody will run it.
    fn execute(&self, job: Job) -> Result<()>;

    /// Takes a job that is to run beside the others, however many of them there are.
    ///
    /// # Errors
    /// As for [`Executor::execute`].
    fn execute_aside(&self, job: Job) -> Result<()>;

    /// Takes a job that the others are not to feel: it has what they leave.
    ///
    /// # Errors
    /// As for [`Executor::execute`].
    fn execute_behind(&self, job: Job) -> Result<()> {
        self.execute(job)
    }
}

/// A pool of worker threads; they end when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Workers {
    executor: Arc<dyn Executor>,
    threads: usize,
    precedence: Arc<Precedence>,
}

/// The threads, by what they wait for.
#[derive(Debug)]
struct Threads {
    first: mpsc::Sender<Job>,
    behind: mpsc::Sender<Job>,
}

impl Executor for Threads {
    fn execute(&self, job: Job) -> Result<()> {
        self.first.send(job).map_err(|_| gone())
    }

    fn execute_behind(&self, job: Job) -> Result<()> {
        self.behind.send(job).map_err(|_| gone())
    }

    fn execute_aside(&self, job: Job) -> Result<()> {
        // The answer comes by the job's own channel.
        drop(tokio::task::spawn_blocking(job));
        Ok(())
    }
}

fn gone() -> Error {
    Error::bug("the worker threads are gone")
}

/// Starts so many threads, each of which does `first` before it takes jobs.
fn start(name: &str, threads: usize, first: fn()) -> Result<mpsc::Sender<Job>> {
    let (jobs, waiting) = mpsc::channel::<Job>();
    let waiting = Arc::new(Mutex::new(waiting));
    for number in 0..threads.max(1) {
        let waiting = Arc::clone(&waiting);
        std::thread::Builder::new()
            .name(format!("{name}-{number}"))
            .spawn(move || {
                first();
                loop {
                    // The lock is held only while waiting, never while working.
                    let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    job();
                }
            })
            .map_err(|error| Error::operator("the system gives no worker thread").with_source(error))?;
    }
    Ok(jobs)
}

/// The system is to prefer others to this thread. A hint: where it does not take it, all goes on as before.
fn step_behind() {
    #[cfg(target_os = "linux")]
    niceness::raise(None, niceness::OF_THREAD);
}

/// The system is to prefer other processes to this one from now on. A hint, as it is for a thread.
pub fn process_steps_behind() {
    #[cfg(target_os = "linux")]
    for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let id = thread.file_name().to_string_lossy().parse().ok();
        niceness::raise(id.and_then(rustix::process::Pid::from_raw), niceness::OF_PROCESS);
    }
}

/// On Linux a thread has a niceness of its own; elsewhere it would be the whole process's.
#[cfg(target_os = "linux")]
mod niceness {
    use rustix::process::{Pid, getpriority_process, setpriority_process};

    /// How much more, of a thread. Not as much as there is: one that holds a lock which others want is to be let go on.
    pub(super) const OF_THREAD: i32 = 10;
    /// The same of a whole process, which holds nothing that others wait for.
    pub(super) const OF_PROCESS: i32 = 19;

    /// Of a thread; without one, of the one that calls.
    pub(super) fn raise(thread: Option<Pid>, more: i32) {
        let raised = getpriority_process(thread).and_then(|now| setpriority_process(thread, now.saturating_add(more)));
        if let Err(error) = raised {
            // The thread may have ended meanwhile.
            tracing::debug!(%error, "the system gives a thread the same share as others");
        }
    }
}

impl Workers {
    /// Starts so many threads, and as many for what runs behind.
    ///
    /// # Errors
    /// Class operator, where the system gives no thread.
    pub fn start(threads: usize) -> Result<Self> {
        let first = start("refine", threads, || {})?;
        let behind = start("again", threads, step_behind)?;
        let of_machine = std::thread::available_parallelism().map_or(threads, NonZero::get);
        let executor = Arc::new(Threads { first, behind });
        Ok(Self { executor, threads: threads.max(1), precedence: Precedence::new(of_machine) })
    }

    /// Workers whose jobs run elsewhere, at most so many at a time. No thread of them stands still for another.
    #[must_use]
    pub fn on(executor: Arc<dyn Executor>, threads: usize) -> Self {
        Self { executor, threads: threads.max(1), precedence: Precedence::none() }
    }

    /// Who is at work.
    #[must_use]
    pub fn precedence(&self) -> &Arc<Precedence> {
        &self.precedence
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs a job beside the workers: what prepares a revision (compiling, loading, binding) takes no worker from the one that
    /// serves.
    ///
    /// # Errors
    /// Those of the job; class bug where it panicked.
    pub async fn aside<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        answered(job, |job| self.executor.execute_aside(job)).await
    }

    /// Runs a job on a worker.
    ///
    /// # Errors
    /// Those of the job; class bug where it panicked.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        answered(job, |job| self.executor.execute(job)).await
    }

    /// Runs a job on a worker of those that have what the others leave.
    ///
    /// # Errors
    /// Those of the job; class bug where it panicked.
    pub async fn behind<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        answered(job, |job| self.executor.execute_behind(job)).await
    }
}

/// The answer of a job, once it was run.
async fn answered<T: Send + 'static>(
    job: impl FnOnce() -> Result<T> + Send + 'static,
    execute: impl FnOnce(Job) -> Result<()>,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    execute(Box::new(move || {
        // Nobody may wait for the answer any more.
        drop(answer.send(caught_in(job)));
    }))?;
    answered.await.map_err(|_| Error::bug("a worker thread dropped its job"))?
}

#[cfg(test)]
#[expect(clippy::panic, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_is_an_error_and_the_thread_goes_on() {
        let workers = Workers::start(1).expect("threads");
        let error = workers.run::<()>(|| panic!("at row {}", 7)).await.expect_err("panics");
        assert_eq!(error.to_string(), "forebay panicked: at row 7");
        assert_eq!(workers.run(|| Ok(3)).await.expect("works"), 3);
    }
}
