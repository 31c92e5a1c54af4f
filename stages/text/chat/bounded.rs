//! Runs a computation within bounds of memory and time, where nothing else can stop it.
//!
//! minijinja counts the instructions of a template, but not what one of them takes: forty that each double a text take all the
//! memory there is, and one over a sequence of sequences need not end. So templates are rendered on threads of their own,
//! whose memory the program's allocator counts. A thread that asks for more than its bound never goes on: an allocator may
//! neither unwind nor fail without ending the program. What that thread held stays taken until the program ends, so whoever
//! calls this should not try the same again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of memory that is held at any time.
    pub bytes: usize,
    pub time: Duration,
}

/// Why a computation was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    #[error("takes more than {} MB of memory", .0 >> 20)]
    Memory(usize),
    #[error("takes more than {} s", .0.as_secs())]
    Time(Duration),
}

/// The system's allocator, which counts what bounded threads hold.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

thread_local! {
    /// Bytes that this thread may still take; none on threads without a bound.
    static LEFT: Cell<Option<isize>> = const { Cell::new(None) };
    /// Whom to tell that it took more.
    static ENDED: Cell<*const Ended> = const { Cell::new(std::ptr::null()) };
}

// SAFETY: every call is the system allocator's own, with the same arguments.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Bytes of an allocation that values alone make.
const LARGE: usize = 1 << 16;

/// How far small ones may go beyond the bound.
const BEYOND: isize = 1 << 26;

#[inline]
fn count(taken: usize, given: usize) {
    let Some(left) = LEFT.get() else { return };
    let left = left.saturating_add_unsigned(given).saturating_sub_unsigned(taken);
    LEFT.set(Some(left));
    // A small one may be made under a lock of the standard library's (that of backtraces), which is not to be held for ever; so
    // may any in a panic, which ends by itself.
    if left < 0 && (taken >= LARGE || left < -BEYOND) && !thread::panicking() {
        give_up();
    }
}

#[cold]
fn give_up() -> ! {
    LEFT.set(None);
    // SAFETY: a bounded thread sets it to what it keeps alive while it is bounded, and it does not go on from here.
    unsafe { &*ENDED.get() }.tell(End::Memory);
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

#[derive(Debug, Clone, Copy)]
enum End {
    Done,
    Memory,
}

/// How a computation ended, where its caller waits for it. Telling takes no memory.
#[derive(Default)]
struct Ended {
    how: Mutex<Option<End>>,
    told: Condvar,
}

impl Ended {
    fn tell(&self, how: End) {
        *locked(&self.how) = Some(how);
        self.told.notify_all();
    }

    fn wait(&self, time: Duration) -> Option<End> {
        let started = Instant::now();
        let mut how = locked(&self.how);
        while how.is_none() {
            let left = time.checked_sub(started.elapsed())?;
            how = self.told.wait_timeout(how, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        *how
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

type Task = Box<dyn FnOnce() + Send>;

/// Threads that wait for a task. One that did not come back from its task is not among them.
static IDLE: Mutex<Vec<Sender<Task>>> = Mutex::new(Vec::new());

/// A template may be nested deeply.
const STACK: usize = 16 << 20;

/// What `compute` gives.
///
/// # Errors
/// [`Exceeded`], and when no thread can be started. A panic goes on here.
pub fn run<T: Send + 'static>(bounds: Bounds, compute: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    type Given<T> = Arc<Mutex<Option<Result<T, Box<dyn Any + Send>>>>>;
    let (given, ended): (Given<T>, Arc<Ended>) = Default::default();
    let (to, told) = (Arc::clone(&given), Arc::clone(&ended));
    let task: Task = Box::new(move || {
        ENDED.set(Arc::as_ptr(&told));
        LEFT.set(Some(isize::try_from(bounds.bytes).unwrap_or(isize::MAX)));
        let result = catch_unwind(AssertUnwindSafe(compute));
        LEFT.set(None);
        *locked(&to) = Some(result);
        told.tell(End::Done);
    });
    let thread = locked(&IDLE).pop();
    let thread = match thread {
        Some(thread) => thread,
        None => start()?,
    };
    if thread.send(task).is_err() {
        bail!("a thread that renders chat templates has ended");
    }
    match ended.wait(bounds.time) {
        Some(End::Done) => {
            locked(&IDLE).push(thread);
            match locked(&given).take() {
                Some(Ok(result)) => Ok(result),
                Some(Err(panic)) => resume_unwind(panic),
                None => bail!("a defect in Strata: a computation ended and gave nothing"),
            }
        }
        Some(End::Memory) => Err(Exceeded::Memory(bounds.bytes).into()),
        None => Err(Exceeded::Time(bounds.time).into()),
    }
}

fn start() -> Result<Sender<Task>> {
    let (sender, tasks) = channel::<Task>();
    let run = move || tasks.into_iter().for_each(|task| task());
    thread::Builder::new().name("bounded".into()).stack_size(STACK).spawn(run)?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 1 << 24, time: Duration::from_secs(60) };

    fn exceeded<T>(result: Result<T>) -> Option<Exceeded> {
        result.err()?.downcast_ref::<Exceeded>().copied()
    }

    #[test]
    fn memory_is_bounded_and_what_is_given_back_is_not_counted() {
        let grow = || (0..64).fold(vec![1u8], |bytes, _| [bytes.clone(), bytes].concat()).len();
        assert_eq!(exceeded(run(BOUNDS, grow)), Some(Exceeded::Memory(1 << 24)));
        let often = || (0..100).map(|i| vec![i as u8; 1 << 22].len()).sum::<usize>();
        assert_eq!(run(BOUNDS, often).expect("within"), 100 << 22);
        let many = || (0..u64::from(u32::MAX)).map(|i| vec![i; 8]).collect::<std::collections::LinkedList<_>>().len();
        assert_eq!(exceeded(run(BOUNDS, many)), Some(Exceeded::Memory(1 << 24)));
        let large = || vec![0u8; usize::MAX >> 8].len();
        assert_eq!(exceeded(run(BOUNDS, large)), Some(Exceeded::Memory(1 << 24)));
    }

    #[test]
    fn time_is_bounded() {
        let time = Duration::from_millis(50);
        let forever = || loop {
            thread::sleep(Duration::from_secs(1));
        };
        assert_eq!(exceeded(run::<()>(Bounds { time, ..BOUNDS }, forever)), Some(Exceeded::Time(time)));
        assert_eq!(run(BOUNDS, || 3).expect("another thread"), 3);
    }

    #[test]
    fn a_panic_goes_on_where_it_was_asked_for() {
        let panicked = catch_unwind(|| run(BOUNDS, || -> usize { panic!("told to") }));
        assert!(panicked.is_err());
        assert_eq!(run(BOUNDS, || 3).expect("the thread goes on"), 3);
    }
}
