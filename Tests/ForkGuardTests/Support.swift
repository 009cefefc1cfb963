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
    /// False when it was not sent in time.
    func wait(seconds: Int) -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_REALTIME, &deadline)
        deadline.tv_sec += seconds
        while sem_timedwait(semaphore, &deadline) != 0 { if errno == ETIMEDOUT { return false } }
        return true
    }
}

/// A task whose end threads wait for, out of the gate's sight.
final class TestTask<Value: Sendable>: Sendable {
    private let task: Task<Void, Never>
    private let done = Signal()
    private let outcome = ForkMutex<Result<Value, any Error>?>(nil)

    init(_ body: @escaping @Sendable () async throws -> Value) {
        task = Task.detached { [done, outcome] in
            let ended: Result<Value, any Error>
            do { ended = .success(try await body()) } catch { ended = .failure(error) }
            outcome.withLock { $0 = ended }
            done.send()
        }
    }

    func cancel() { task.cancel() }

    /// Within so many seconds; a task that has not ended then ends the tests.
    @discardableResult
    func get(seconds: Int = 60) throws -> Value {
        guard done.wait(seconds: seconds) else { fatalError("a task has not ended after \(seconds) seconds") }
        done.send()
        return try outcome.withLock { $0! }.get()
    }
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
