import ForkGuard
import ForkGuardTesting
import Glibc
import XCTest

/// The mutex as Swift users see it, and what becomes of it in children: behaviours 20, 21, 23 for `ForkMutex`, with the control.
final class ForkMutexTests: XCTestCase {
    struct Token: ~Copyable {
        let number: Int
        let freed: Log
        deinit { freed.add("freed \(number)") }
    }

    struct Refused: Error, Equatable { let code: Int }

    func test_itHasTheShapeOfSynchronizationMutex() throws {
        let log = Log()
        do {
            // A value that cannot be copied, a result that cannot be copied, a typed error.
            let mutex = ForkMutex(Token(number: 1, freed: log))
            let taken = mutex.withLock { token -> Token in
                let old = Token(number: token.number + 10, freed: log)
                token = Token(number: 2, freed: log)
                return old
            }
            XCTAssertEqual(taken.number, 11)
            do throws(Refused) {
                try mutex.withLock { (_: inout Token) throws(Refused) in throw Refused(code: 7) }
                XCTFail("it did not throw")
            } catch { XCTAssertEqual(error.code, 7) }
            XCTAssertEqual(mutex.withLockIfAvailable { $0.number }, 2)
            mutex.withLock { _ in XCTAssertNil(mutex.withLockIfAvailable { $0.number }) }
        }
        XCTAssertEqual(log.take().sorted(), ["freed 1", "freed 11", "freed 2"])
    }

    func test_contendedCountsAddUp() {
        let mutex = ForkMutex(0)
        let threads = (0..<8).map { _ in TestThread { for _ in 0..<50_000 { mutex.withLock { $0 += 1 } } } }
        threads.forEach { $0.join() }
        XCTAssertEqual(mutex.withLock { $0 }, 400_000)
    }

    func test_behaviour20_21_heldByAnotherFreeInTheChildHeldInTheParent() throws {
        // Threads hold it nearly all the time, and sleep on it.
        let mutex = ForkMutex((a: 0, b: 0), name: "busy")
        let holder: @Sendable () -> Void = {
            mutex.withLock { value in
                value.a += 1
                for _ in 0..<2000 { keep() }
                value.b += 1
            }
        }
        for method in [ForkMethod.forkGuard, .rawFork] {
            let counts = try ForkTesting.repeated(200, method, while: [holder, holder, holder]) { context in
                context.expect(mutex.withLock { $0.a == $0.b }, "half changed")
                context.expect(mutex.withLockIfAvailable { $0.a == $0.b } == true, "not free")
            }
            counts.expectAll("children of a busy lock, \(method)")
        }
        XCTAssert(mutex.withLock { $0.a == $0.b && $0.a > 0 })
    }

    func test_behaviour20_control_aPthreadMutexHangsTheChild() throws {
        let mutex = PlainMutex()
        let holder: @Sendable () -> Void = { mutex.withLock { for _ in 0..<2000 { keep() } } }
        let counts = try ForkTesting.repeated(
            200, .rawFork, deadline: .seconds(2), stopAfterHung: 2, while: [holder, holder, holder]
        ) { _ in mutex.withLock {} }
        print("control: \(counts.made) children, \(counts.hung) hung")
        XCTAssertEqual(counts.hung, 2, "the control did not fail: \(counts)")
        XCTAssert(counts.firstProblem?.contains("lock") ?? false, "the stack does not say where: \(counts)")
    }

    func test_behaviour23_aTornMutexTrapsOrRebuilds() throws {
        let deadline = ForkGuard.deadline
        ForkGuard.deadline = .milliseconds(100)
        defer { ForkGuard.deadline = deadline }
        let log = Log()
        let trapping = ForkMutex([1], name: "trapping")
        let rebuilding = ForkMutex(Token(number: 1, freed: log), name: "rebuilding", ifTorn: .rebuild { Token(number: 2, freed: log) })
        let holding = Signal(), leave = Signal()
        let holder = TestThread {
            trapping.withLock { _ in
                rebuilding.withLock { _ in
                    holding.send()
                    leave.wait()
                }
            }
        }
        holding.wait()
        // Refused, and it says what was waited for.
        XCTAssertThrowsError(try ForkGuard.fork { 0 }) { error in
            guard case .timedOut(let what)? = error as? ForkError else { return XCTFail("\(error)") }
            XCTAssert(what.contains("ForkMutexTests.swift") && (what.contains("'trapping'") || what.contains("'rebuilding'")), what)
        }
        let rebuilt = try ForkTesting.run(.rawFork) { context in
            context.expect(rebuilding.withLock { $0.number } == 2, "not rebuilt")
            context.expect(rebuilding.withLock { $0.number } == 2, "rebuilt twice")
            context.expect(log.take() == [], "the torn value was deinitialised")
            let report = ForkGuard.lastReport
            context.expect(report?.tornHolders.first?.torn == .pastDeadline, "\(String(describing: report))")
        }
        XCTAssert(rebuilt.succeeded, "\(rebuilt)")
        let trapped = try ForkTesting.run(.rawFork) { _ in trapping.withLock { $0.append(2) } }
        guard case .signalled(SIGILL) = trapped.ending else { return XCTFail("\(trapped)") }
        let parts = [
            "lock 'trapping', made at ForkGuardTests/ForkMutexTests.swift:", "is torn", "did not leave before the deadline", "What to do",
        ]
        for part in parts {
            XCTAssert(trapped.standardError.contains(part), trapped.standardError)
        }
        leave.send()
        holder.join()
        XCTAssertEqual(rebuilding.withLock { $0.number }, 1)
    }

    func test_misuseTrapsWithAMessage() throws {
        let mutex = ForkMutex(0, name: "once")
        let twice = try ForkTesting.run(.rawFork) { _ in mutex.withLock { _ in mutex.withLock { $0 += 1 } } }
        XCTAssertFalse(twice.succeeded)
        XCTAssert(twice.standardError.contains("lock 'once', made at ForkGuardTests/ForkMutexTests.swift:"), twice.standardError)
        XCTAssert(twice.standardError.contains("locked twice on one thread"), twice.standardError)
    }
}

/// Something that the compiler must keep.
@inline(never)
func keep() {}

/// The unguarded twin.
final class PlainMutex: @unchecked Sendable {
    // @unchecked: a pthread mutex is made for use by several threads; the pointer is a constant.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>

    init() {
        mutex = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
    }

    func withLock(_ body: () -> Void) {
        pthread_mutex_lock(mutex)
        body()
        pthread_mutex_unlock(mutex)
    }
}
