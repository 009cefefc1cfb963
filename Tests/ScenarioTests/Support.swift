import ForkGuard
import ForkGuardTesting
import Glibc
import XCTest

extension ForkCounts {
    /// Fails the test unless every child was fine; prints the count.
    func expectAll(_ what: String, file: StaticString = #filePath, line: UInt = #line) {
        XCTAssert(succeeded, "\(what): \(self)", file: file, line: line)
        print("\(what): \(ok) of \(times) ok")
    }

    /// Fails the test unless some child was not fine: what a control must show. Prints the count.
    func expectSomeBad(_ what: String, atLeast least: Int = 1, file: StaticString = #filePath, line: UInt = #line) {
        XCTAssertGreaterThanOrEqual(made - ok, least, "\(what): \(self)", file: file, line: line)
        print("\(what): \(failed) wrong, \(hung) hung, \(crashed) crashed, \(ok) ok")
    }
}

/// A thread of the test's own, joined by hand.
final class TestThread: Sendable {
    private let thread: ForkMutex<pthread_t?>

    init(_ body: @escaping @Sendable () -> Void) {
        final class Box: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        var thread = pthread_t()
        let started = pthread_create(
            &thread, nil,
            { context in
                Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
                return nil
            }, Unmanaged.passRetained(Box(body)).toOpaque())
        precondition(started == 0)
        self.thread = ForkMutex(thread)
    }

    func join() { if let thread = thread.withLock({ $0.take() }) { pthread_join(thread, nil) } }
}

/// What threads wait for out of the gate's sight: a POSIX semaphore.
final class Signal: @unchecked Sendable {
    // @unchecked: POSIX semaphores are made for use by several threads; the pointer is a constant.
    private let semaphore: UnsafeMutablePointer<sem_t>

    init() {
        semaphore = .allocate(capacity: 1)
        sem_init(semaphore, 0, 0)
    }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func send() { sem_post(semaphore) }

    /// False when it did not come in time.
    @discardableResult
    func wait(_ timeout: Duration) -> Bool {
        var until = timespec()
        clock_gettime(CLOCK_REALTIME, &until)
        let (seconds, attoseconds) = timeout.components
        let nanoseconds = until.tv_nsec + Int(attoseconds / 1_000_000_000)
        until.tv_sec += Int(seconds) + nanoseconds / 1_000_000_000
        until.tv_nsec = nanoseconds % 1_000_000_000
        while sem_timedwait(semaphore, &until) != 0 { if errno != EINTR { return false } }
        return true
    }
}
