import ForkGuard
import ForkGuardTesting
import XCTest

/// One value per process.
final class ForkLocalTests: XCTestCase {
    final class Connection: Sendable {
        let generation: UInt64
        let log: Log
        init(_ log: Log) {
            generation = ForkGuard.generation
            self.log = log
            log.add("made")
        }
        deinit { log.add("closed") }
    }

    func test_eachProcessBuildsItsOwnAndTheInheritedOneIsAbandoned() throws {
        let log = Log()
        let local = ForkLocal { Connection(log) }
        XCTAssertNil(local.ifBuilt)
        let mine = try local.get()
        XCTAssert(try local.get() === mine)
        XCTAssertEqual(log.take(), ["made"])
        for method in ForkMethod.available {
            let counts = try ForkTesting.repeated(50, method, while: [{ _ = try? local.get() }, { _ = local.ifBuilt }]) { context in
                context.expect(local.ifBuilt == nil, "the parent's was given out")
                context.expect(try local.get().generation == ForkGuard.generation, "the parent's was given out")
                context.expect(log.take() == ["made"], "the inherited one was closed")
                let grandchild = try ForkGuard.fork { try local.get().generation == ForkGuard.generation ? 0 : 1 }
                context.expect(try grandchild.wait(timeout: .seconds(10)) == .exited(0), "grandchild")
            }
            counts.expectAll("ForkLocal after \(method)")
        }
        XCTAssert(try local.get() === mine)
    }

    func test_itIsReleasedWithItsOwnerInTheProcessThatMadeIt() throws {
        let log = Log()
        do { _ = try ForkLocal { Connection(log) }.get() }
        XCTAssertEqual(log.take(), ["made", "closed"])
    }

    func test_aBuildThatThrowsIsTriedAgain() throws {
        struct NotYet: Error {}
        let attempts = ForkMutex(0)
        let local = ForkLocal { () throws -> Int in
            try attempts.withLock { attempts in
                attempts += 1
                if attempts == 1 { throw NotYet() }
                return attempts
            }
        }
        XCTAssertThrowsError(try local.get())
        XCTAssertEqual(try local.get(), 2)
        XCTAssertEqual(try local.get(), 2)
        local.abandon()
        XCTAssertEqual(try local.get(), 3)
    }
}
