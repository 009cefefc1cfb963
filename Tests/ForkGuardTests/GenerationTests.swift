import CForkGuard
import ForkGuard
import ForkGuardTesting
import XCTest

/// Behaviours 26 and 27, as Swift sees them. The C tests have every way to fork after every other.
final class GenerationTests: XCTestCase {
    func test_behaviour26_plusOneInTheChildPlusTwoInTheGrandchild() throws {
        let mine = ForkGuard.generation
        XCTAssertGreaterThan(mine, 0)
        XCTAssert(ForkGuard.isCurrent(mine))
        for method in ForkMethod.available {
            let outcome = try ForkTesting.run(method) { context -> [UInt64] in
                let child = ForkGuard.generation
                context.expect(!ForkGuard.isCurrent(mine))
                context.expect(ForkGuard.isCurrent(child))
                let grandchild = try ForkGuard.fork { Int32(ForkGuard.generation - mine) }
                guard case .exited(let difference) = try grandchild.wait(timeout: .seconds(10)) else { return [] }
                return [child - mine, UInt64(difference)]
            }
            XCTAssertEqual(try outcome.get(), [1, 2], "\(method)")
            XCTAssertEqual(ForkGuard.generation, mine)
        }
    }

    func test_behaviour27_resourcesAreInvalidatedOnceAfterEveryWayToFork() throws {
        final class Client: ForkSafe {
            let discarded = ForkMutex(0)
            func discardAfterFork() { discarded.withLock { $0 += 1 } }
        }
        let eager = Client(), lazy = Client()
        ForkGuard.register(eager)
        ForkGuard.register(lazy, discard: .onFirstUse)
        let busy = ForkMutex(0)
        for method in ForkMethod.available {
            let counts = try ForkTesting.repeated(100, method, while: [{ busy.withLock { $0 += 1 } }, { busy.withLock { $0 += 1 } }]) {
                context in
                // The first ForkGuard call of the child.
                _ = ForkGuard.generation
                context.expect(eager.discarded.withLock { $0 } == 1, "eager")
                context.expect(lazy.discarded.withLock { $0 } == 1, "lazy")
                _ = ForkGuard.generation
                context.expect(eager.discarded.withLock { $0 } == 1, "twice")
            }
            counts.expectAll("resources after \(method)")
        }
        withExtendedLifetime((eager, lazy)) {}
    }

    func test_behaviour27_whatOthersHeldAtAForkThatNobodyPreparedIsTorn() throws {
        let held = ForkMutex(0, name: "held"), free = ForkMutex(0, name: "free")
        let holding = Signal(), leave = Signal()
        let holder = TestThread {
            held.withLock { _ in
                holding.send()
                leave.wait()
            }
        }
        holding.wait()
        // Not CLONE_FILES, whose standard error is the runner's own.
        for method in ForkMethod.available where !method.runsForkHandlers && method != .rawCloneSharingFiles {
            let outcome = try ForkTesting.run(method) { context in
                free.withLock { $0 += 1 }
                context.note("alive")
                held.withLock { $0 += 1 }
            }
            XCTAssertEqual(outcome.notes, ["alive"])
            guard case .signalled = outcome.ending else { return XCTFail("\(method): \(outcome)") }
            for part in ["lock 'held'", "is torn", "the fork was not prepared"] {
                XCTAssert(outcome.standardError.contains(part), "\(method): \(outcome.standardError)")
            }
        }
        leave.send()
        holder.join()
        XCTAssertEqual(held.withLock { $0 }, 0)
    }

    func test_firstUseMayBeALockAndIsNeverInsideASection() throws {
        final class Client: ForkSafe {
            let discarded = ForkMutex(0)
            let held = ForkMutex<UInt32>(0)
            func discardAfterFork() {
                let sections = forkguard_sections_held()
                held.withLock { $0 = sections }
                discarded.withLock { $0 += 1 }
            }
        }
        let client = Client()
        ForkGuard.register(client, discard: .onFirstUse)
        let lock = ForkMutex(0)
        for method in [ForkMethod.rawFork, .underscoreFork] {
            let outcome = try ForkTesting.run(method, from: .calling) { context in
                lock.withLock { $0 += 1 }
                context.expect(client.discarded.withLock { $0 } == 1)
                context.expect(client.held.withLock { $0 } == 0)
            }
            XCTAssert(outcome.succeeded, "\(outcome)")
            // Inside a section it waits for the end of that section.
            try lock.withLock { _ in
                let inside = try ForkTesting.run(method, from: .calling) { context in
                    context.expect(client.discarded.withLock { $0 } == 0, "discarded inside a section")
                }
                XCTAssert(inside.succeeded, "\(inside)")
            }
        }
        withExtendedLifetime(client) {}
    }
}
