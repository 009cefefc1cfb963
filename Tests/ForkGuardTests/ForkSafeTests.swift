import ForkGuard
import ForkGuardTesting
import XCTest

/// Which of a resource's methods are called, and how often.
final class ForkSafeTests: XCTestCase {
    /// Does nothing itself before and after.
    final class Inner: ForkSafe {
        let discarded = ForkMutex(0)
        func discardAfterFork() { discarded.withLock { $0 += 1 } }
    }

    /// Hands on to one whose methods do nothing, which must not be taken for its own doing nothing.
    final class Outer: ForkSafe {
        let inner = Inner(), prepared = ForkMutex(0), resumed = ForkMutex(0)
        func prepareForFork() {
            prepared.withLock { $0 += 1 }
            inner.prepareForFork()
        }
        func resumeAfterFork() {
            resumed.withLock { $0 += 1 }
            inner.resumeAfterFork()
        }
        func discardAfterFork() { inner.discardAfterFork() }
    }

    func test_aResourceThatHandsOnIsCalledAtEachFork() throws {
        let outer = Outer(), inner = Inner()
        let registrations = [ForkGuard.register(outer, name: "outer"), ForkGuard.register(inner, name: "inner")]
        defer { registrations.forEach { $0.cancel() } }
        for fork in 1...5 {
            let outcome = try ForkTesting.run { context in
                context.expect(outer.inner.discarded.withLock { $0 } == 1 && inner.discarded.withLock { $0 } == 1, "not discarded")
            }
            XCTAssert(outcome.succeeded, "\(outcome)")
            XCTAssertEqual(outer.prepared.withLock { $0 }, fork)
            XCTAssertEqual(outer.resumed.withLock { $0 }, fork)
            // What does nothing is not even called, from the second fork on.
            let report = try XCTUnwrap(ForkGuard.lastReport)
            XCTAssertEqual(report.hooks.filter { $0.name == "outer" }.map(\.phase), ["prepare", "parent"])
            XCTAssertEqual(report.hooks.filter { $0.name == "inner" }.map(\.phase), [])
        }
    }
}
