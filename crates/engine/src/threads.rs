//! The same work from several threads.

/// Has `workers` threads of nice value `nice` do `work`, each until there is nothing left of it.
/// The first failure, or `panicked` when a thread did.
pub(crate) fn side_by_side<E: Send>(
    workers: usize,
    nice: i32,
    work: impl Fn() -> Result<(), E> + Sync,
    panicked: impl Fn() -> E,
) -> Result<(), E> {
    let each = || {
        // Without the privilege the work is done at the ordinary priority.
        let _ = sys::priority::set_thread_nice(nice);
        work()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(each)).collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err(panicked())))
            .collect::<Result<Vec<()>, _>>()
            .map(drop)
    })
}
