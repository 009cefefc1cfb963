import ForkGuard
import ForkGuardTesting
import NIOConcurrencyHelpers
import XCTest

/// SwiftNIO's locks, found by reflection: behaviours 20 and 21.
final class NIOLockTests: XCTestCase {
    final class Halves: @unchecked Sendable {
        // @unchecked: used under the lock of the test only; that is what the test tests.
        var a = 0, b = 0
        var areEqual: Bool { a == b }

        func change() {
            a += 1
            for _ in 0..<500 { keep() }
            b += 1
        }
    }

    private func check(_ name: String, _ withLock: @escaping @Sendable (() -> Void) -> Void) throws {
        for method in [ForkMethod.forkGuard, .rawFork] {
            let halves = Halves()
            let hammer: @Sendable () -> Void = { withLock { halves.change() } }
            let counts = try ForkTesting.repeated(200, method, while: [hammer, hammer, hammer]) { context in
                withLock { context.expect(halves.areEqual, "half changed") }
                context.expect(ForkGuard.lastReport?.foreignReinitialized ?? 0 > 0, "\(String(describing: ForkGuard.lastReport))")
            }
            XCTAssert(counts.succeeded, "\(name), \(method): \(counts)")
            print("children of a busy \(name), \(method): \(counts.ok) of \(counts.times) ok")
        }
    }

    func test_behaviour20_21_NIOLock() throws {
        let lock = NIOLock()
        XCTAssertEqual(try ForkGuard.register(reflecting: lock, name: "NIOLock").count, 1)
        try check("NIOLock") { body in lock.withLock(body) }
    }

    func test_behaviour20_21_NIOLockedValueBox() throws {
        let box = NIOLockedValueBox(["key": 1])
        XCTAssertEqual(try ForkGuard.register(reflecting: box, name: "NIOLockedValueBox").count, 1)
        try check("NIOLockedValueBox") { body in box.withLockedValue { _ in body() } }
    }

    func test_behaviour20_21_ConditionLock() throws {
        let lock = ConditionLock(value: 0)
        XCTAssertEqual(try ForkGuard.register(reflecting: lock, name: "ConditionLock").count, 2)
        try check("ConditionLock") { body in
            lock.lock()
            body()
            lock.unlock()
        }
    }

    func test_behaviour20_control_aNIOLockHangsTheChild() throws {
        let lock = NIOLock()
        let holder: @Sendable () -> Void = { lock.withLock { for _ in 0..<2000 { keep() } } }
        let counts = try ForkTesting.repeated(
            200, .rawFork, deadline: .seconds(2), stopAfterHung: 1, while: [holder, holder, holder]
        ) { _ in lock.withLock {} }
        XCTAssertEqual(counts.hung, 1, "the control did not fail: \(counts)")
    }

    func test_theRegistrationEndsWithTheLock() throws {
        for _ in 0..<100 { try ForkGuard.register(reflecting: NIOLock()) }
        let outcome = try ForkTesting.run(.rawFork) { ForkGuard.lastReport?.foreignReinitialized == 0 ? $0.expect(true) : $0.expect(false) }
        XCTAssert(outcome.succeeded, "\(outcome)")
    }
}

/// Something that the compiler must keep.
@inline(never)
func keep() {}
