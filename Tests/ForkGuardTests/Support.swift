import CForkGuard
import ForkGuard
import ForkGuardTesting
import Glibc
import XCTest

/// The ways to fork that run hooks before they return.
let handledMethods: [ForkMethod] = [.forkGuard, .forkGuardOnCallingThread, .rawFork]

/// A thread of the runner's own, joined by hand.
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

    func join() {
        guard
            let thread = thread.withLock({ thread in
                defer { thread = nil }
                return thread
            })
        else { return }
        pthread_join(thread, nil)
    }
}

/// A flag that threads wait for, out of the gate's sight: a POSIX semaphore.
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
    func wait() { while sem_wait(semaphore) != 0 {} }
}

/// A list that threads append to, in order.
final class Log: Sendable {
    private let lines = ForkMutex<[String]>([], name: "Log")

    func add(_ line: String) { lines.withLock { $0.append(line) } }
    func take() -> [String] {
        lines.withLock { lines in
            defer { lines = [] }
            return lines
        }
    }
}

extension ForkCounts {
    /// Fails the test unless every child was fine; prints the count.
    func expectAll(_ what: String, file: StaticString = #filePath, line: UInt = #line) {
        XCTAssert(succeeded, "\(what): \(self)", file: file, line: line)
        print("\(what): \(ok) of \(times) ok")
    }
}

/// How many registrations are live.
func registeredCount() -> Int { forkguard_registered_count() }
