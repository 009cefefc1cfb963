import CForkGuard
import ForkGuard
import ForkGuardTesting
import Foundation
import XCTest

/// Locks that are not ours, as Swift users have them: Foundation's, their own, pthread's.
final class ForkableLockTests: XCTestCase {
    /// What a lock protects; halves are unequal while somebody is inside.
    final class Halves: @unchecked Sendable {
        // @unchecked: used under the lock of the test only; that is what the test tests.
        var a = 0, b = 0

        func change() {
            a += 1
            for _ in 0..<500 { keep() }
            b += 1
        }
        var areEqual: Bool { a == b }
    }

    /// A lock of a user's own, that knows nothing of processes.
    final class SpinLock: ForkableLock, @unchecked Sendable {
        // @unchecked: a semaphore is made for use by several threads.
        private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
        let says: ForkMutex<Bool?>

        init(says: Bool? = nil) {
            sem_init(semaphore, 0, 1)
            self.says = ForkMutex(says)
        }
        deinit { semaphore.deallocate() }

        func lock() { while sem_wait(semaphore) != 0 {} }
        func unlock() { sem_post(semaphore) }
        func tryLock() -> Bool { says.withLock { $0 } ?? (sem_trywait(semaphore) == 0) }
        func reinitialize() { sem_init(semaphore, 0, 1) }
        func tryToLock() -> Bool { sem_trywait(semaphore) == 0 }
    }

    private func hammerAndFork(
        _ times: Int, _ name: String, _ withLock: @escaping @Sendable (() -> Void) -> Void, tries: @escaping @Sendable () -> Bool
    ) throws {
        for method in [ForkMethod.forkGuard, .rawFork] {
            let halves = Halves()
            let hammer: @Sendable () -> Void = { withLock { halves.change() } }
            let counts = try ForkTesting.repeated(times, method, while: [hammer, hammer, hammer]) { context in
                withLock { context.expect(halves.areEqual, "half changed") }
                context.expect(tries(), "not free")
                context.expect(ForkGuard.lastReport?.foreignReinitialized ?? 0 > 0, "\(String(describing: ForkGuard.lastReport))")
            }
            counts.expectAll("children of a busy \(name), \(method)")
            withLock { XCTAssert(halves.areEqual && halves.a > 0) }
        }
    }

    func test_behaviour20_21_locksOfFoundation() throws {
        let lock = NSLock()
        XCTAssertEqual(try ForkGuard.register(reflecting: lock, name: "NSLock").count, 1)
        try hammerAndFork(150, "NSLock", { body in lock.withLock(body) }, tries: { lock.try() })

        let recursive = NSRecursiveLock()
        XCTAssertEqual(try ForkGuard.register(reflecting: recursive).count, 1)
        try hammerAndFork(
            150, "NSRecursiveLock", { body in recursive.withLock { recursive.withLock(body) } }, tries: { recursive.try() })

        let condition = NSCondition()
        XCTAssertEqual(try ForkGuard.register(reflecting: condition).count, 2)
        try hammerAndFork(150, "NSCondition", { body in condition.withLock(body) }, tries: { true })

        let conditionLock = NSConditionLock(condition: 1)
        XCTAssertEqual(try ForkGuard.register(reflecting: conditionLock).count, 2)
    }

    func test_behaviour20_control_anNSLockHangsTheChild() throws {
        let lock = NSLock()
        let holder: @Sendable () -> Void = { lock.withLock { for _ in 0..<2000 { keep() } } }
        let counts = try ForkTesting.repeated(
            200, .rawFork, deadline: .seconds(2), stopAfterHung: 1, while: [holder, holder, holder]
        ) { _ in lock.withLock {} }
        XCTAssertEqual(counts.hung, 1, "the control did not fail: \(counts)")
    }

    func test_behaviour22_anNSConditionWithVanishedWaitersWorksInTheChild() throws {
        let condition = NSCondition()
        try ForkGuard.register(reflecting: condition)
        let waiting = ForkMutex(0), stop = ForkMutex(false)
        let waiters = (0..<4).map { _ in
            TestThread {
                condition.lock()
                waiting.withLock { $0 += 1 }
                while !stop.withLock({ $0 }) { condition.wait() }
                condition.unlock()
            }
        }
        while waiting.withLock({ $0 }) < 4 { usleep(200) }
        condition.withLock {}  // all four are in wait() now
        let counts = try ForkTesting.repeated(50, .rawFork) { context in
            let ready = ForkMutex(false)
            let thread = TestThread {
                condition.lock()
                while !ready.withLock({ $0 }) { condition.wait() }
                condition.unlock()
            }
            for _ in 0..<3 { condition.broadcast() }
            condition.withLock { ready.withLock { $0 = true } }
            condition.signal()
            thread.join()
        }
        counts.expectAll("children of four waiters of an NSCondition")
        stop.withLock { $0 = true }
        condition.withLock { condition.broadcast() }
        waiters.forEach { $0.join() }
    }

    func test_behaviour20_21_aLockOfTheUsersOwn() throws {
        let lock = SpinLock()
        let registration = ForkGuard.register(lock: lock, name: "semaphore")
        XCTAssertEqual(ForkGuard.register(lock: lock), registration, "the same lock is registered once")
        try hammerAndFork(
            150, "semaphore",
            { body in
                lock.lock()
                body()
                lock.unlock()
            }, tries: { lock.tryToLock() })
        registration.cancel()
        registration.cancel()
        XCTAssertNotEqual(ForkGuard.register(lock: lock), registration)
    }

    func test_behaviour23_aForeignLockThatIsNeverFreeIsTornAndTheChildIsTold() throws {
        let deadline = ForkGuard.deadline
        ForkGuard.deadline = .milliseconds(150)
        defer { ForkGuard.deadline = deadline }
        let lock = SpinLock()
        let told = ForkMutex(0)
        ForkGuard.register(lock: lock, name: "kept", ifTorn: { told.withLock { $0 += 1 } })
        let holding = Signal(), leave = Signal()
        let holder = TestThread {
            lock.lock()
            holding.send()
            leave.wait()
            lock.unlock()
        }
        holding.wait()
        XCTAssertThrowsError(try ForkGuard.fork { 0 }) {
            guard case .timedOut(let what)? = $0 as? ForkError else { return XCTFail("\($0)") }
            XCTAssert(what.contains("'kept'") && what.contains("ForkableLockTests.swift"), what)
        }
        XCTAssertEqual(ForkGuard.lastReport?.heldUpBy?.lockName, "kept")
        let outcome = try ForkTesting.run(.rawFork) { context in
            context.expect(told.withLock { $0 } == 1, "told \(told.withLock { $0 }) times")
            context.expect(lock.tryToLock(), "not free")
            context.expect(ForkGuard.lastReport?.tornHolders.first?.torn == .pastDeadline)
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
        XCTAssertEqual(told.withLock { $0 }, 0)
        leave.send()
        holder.join()
        XCTAssertEqual(try ForkGuard.fork { told.withLock { Int32($0) } }.wait(timeout: .seconds(10)), .exited(0))
    }

    func test_locksThatLie() throws {
        let deadline = ForkGuard.deadline
        ForkGuard.deadline = .milliseconds(100)
        defer { ForkGuard.deadline = deadline }
        // Claims to be taken although somebody has it: believed, and undone once in the parent.
        let liar = SpinLock(says: true)
        let lies = ForkGuard.register(lock: liar, name: "liar")
        let outcome = try ForkTesting.run(.rawFork) { context in
            liar.says.withLock { $0 = nil }
            context.expect(liar.tryToLock(), "not made anew")
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
        lies.cancel()
        // Never to be had: the deadline, and its name; and in the child it still is not after it was made anew, which the report says.
        let miser = SpinLock(says: false)
        let refuses = ForkGuard.register(lock: miser, name: "miser")
        let named = try ForkTesting.run(.rawFork) { context in
            let failures = ForkGuard.lastReport?.hookFailures ?? []
            context.expect(failures.contains { $0.name == "miser" && $0.phase == "child" && $0.code == EBUSY }, "\(failures)")
        }
        XCTAssert(named.succeeded, "\(named)")
        XCTAssertThrowsError(try ForkGuard.fork { 0 }) { XCTAssert("\($0)".contains("'miser'"), "\($0)") }
        refuses.cancel()
        XCTAssertEqual(try ForkGuard.fork { 0 }.wait(timeout: .seconds(10)), .exited(0))
    }

    func test_aLockThatEndsEndsItsRegistration() throws {
        let before = registeredCount()
        weak var gone: SpinLock?
        do {
            let lock = SpinLock()
            gone = lock
            ForkGuard.register(lock: lock)
            try ForkGuard.register(reflecting: NSLock())
            XCTAssertEqual(registeredCount(), before + 2)
        }
        XCTAssertNil(gone, "the registration keeps it alive")
        for method in [ForkMethod.rawFork, .underscoreFork] {
            let outcome = try ForkTesting.run(method) { _ in ForkGuard.generation }
            XCTAssert(outcome.succeeded, "\(outcome)")
        }
        XCTAssertEqual(registeredCount(), before)
        // In the place of one that ended another may be made, and registered.
        for _ in 0..<200 { try ForkGuard.register(reflecting: NSLock()) }
        XCTAssert(try ForkTesting.run(.rawFork) { _ in }.succeeded)
        XCTAssertEqual(registeredCount(), before)
    }

    func test_behaviour13_theForkingThreadsOwnNSRecursiveLock() throws {
        let lock = NSRecursiveLock()
        try ForkGuard.register(reflecting: lock, name: "mine")
        lock.lock()
        defer { lock.unlock() }
        XCTAssertThrowsError(try ForkGuard.fork { 0 }) { XCTAssertEqual($0 as? ForkError, .holdingLocks(["mine"])) }
        let outcome = try ForkTesting.run(.rawFork, from: .calling) { context in
            lock.lock()
            lock.unlock()
            let others = ForkMutex(true)
            let thread = TestThread { others.withLock { $0 = lock.try() } }
            thread.join()
            context.expect(!others.withLock { $0 }, "another thread of the child got it")
            lock.unlock()
            let after = TestThread { others.withLock { $0 = lock.try() } }
            after.join()
            context.expect(others.withLock { $0 }, "not free after its unlock")
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
    }

    func test_behaviour24_whatCannotBeRegisteredSaysWhy() throws {
        let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        defer { mutex.deallocate() }
        var attributes = pthread_mutexattr_t()
        pthread_mutexattr_init(&attributes)
        pthread_mutexattr_setpshared(&attributes, Int32(PTHREAD_PROCESS_SHARED))
        pthread_mutex_init(mutex, &attributes)
        XCTAssertThrowsError(try ForkGuard.register(mutex: mutex, name: "shared one")) {
            XCTAssert(
                "\($0)".contains("'shared one' (ForkGuardTests/ForkableLockTests.swift:") && "\($0)".contains("shared by processes"),
                "\($0)")
        }
        XCTAssertThrowsError(try ForkGuard.register(reflecting: "a string")) { XCTAssert("\($0)".contains("no pthread lock"), "\($0)") }
        pthread_mutex_init(mutex, nil)
        let registration = try ForkGuard.register(mutex: mutex, name: "plain")
        XCTAssertEqual(try ForkGuard.register(mutex: mutex, name: "again"), registration)
        registration.cancel()
    }
}
