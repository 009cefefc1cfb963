import ForkGuardTesting

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// Swift hides it.
@_silgen_name("fork") func libcFork() -> pid_t

#if os(Linux)
    /// The number's type, and whether Swift sees RLIMIT_NPROC (6), differ per libc.
    @_silgen_name("setrlimit") func libcSetrlimit(_ resource: Int32, _ limit: UnsafePointer<rlimit>) -> Int32
#endif

/// A mutex that a thread of the runner can hold, and a child can wait for in vain.
// Sendable because a pthread mutex is made for several threads, and its address never changes.
final class PlainMutex: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

    init() { pthread_mutex_init(mutex, nil) }
    // Never freed: a hammer may hold it for longer than the test.

    func lock() { pthread_mutex_lock(mutex) }
    func unlock() { pthread_mutex_unlock(mutex) }
}

/// Its name must be in the stack of a child that hangs.
@discardableResult @inline(never) func waitForTheLockThatSomebodyHeld(_ mutex: PlainMutex) -> Int {
    mutex.lock()
    mutex.unlock()
    return 1
}

/// A number that the hammers count up, and that a test can wait for.
final class Counter: @unchecked Sendable {
    // Sendable because the number is touched while the mutex is held only.
    private var number = 0
    private let mutex = PlainMutex()

    @discardableResult func increment() -> Int {
        mutex.lock()
        defer { mutex.unlock() }
        number += 1
        return number
    }

    var value: Int {
        mutex.lock()
        defer { mutex.unlock() }
        return number
    }
}

func sleepMilliseconds(_ milliseconds: Int) {
    var time = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
    var left = timespec()
    while nanosleep(&time, &left) != 0 { time = left }
}

func seconds(_ body: () throws -> Void) rethrows -> Double {
    let clock = ContinuousClock()
    return try clock.measure(body) / .seconds(1)
}

extension ForkOutcome {
    var stack: String? { if case .hung(let stack) = ending { stack } else { nil } }
    var exitCode: Int32? { if case .exited(let code) = ending { code } else { nil } }
    var signal: Int32? { if case .signalled(let number) = ending { number } else { nil } }
    var refusal: (any Error)? { if case .refused(let error) = ending { error } else { nil } }
    var isEscaped: Bool { if case .escaped = ending { true } else { false } }
}

/// Whether this process has children, zombies included. Reaps none.
func hasChildren() -> Bool {
    var information = siginfo_t()
    return waitid(P_ALL, 0, &information, WEXITED | WNOHANG | WNOWAIT) == 0
}

/// How many descriptors are open.
func countOpen() -> Int { (0..<Int32(4096)).count { fcntl($0, F_GETFD) != -1 } }

/// Should nobody kill this process, it goes by itself.
func waitForTheEnd() -> Never {
    sleepMilliseconds(30_000)
    _exit(99)
}
