import ForkGuard
import ForkGuardTesting
import Foundation
import XCTest

/// Late discovery, whole: what becomes of locks, resources and hooks after forks that ran no handlers. Behaviour 27.
final class LateTests: XCTestCase {
    static let bypasses = ForkMethod.available.filter { !$0.runsForkHandlers }

    final class Client: ForkSafe {
        let discarded = ForkMutex(0)
        func discardAfterFork() { discarded.withLock { $0 += 1 } }
    }

    func test_behaviour27_locksResourcesAndHooksAfterForksThatRanNoHandlers() throws {
        let client = Client(), lazy = Client(), ran = ForkMutex(0)
        ForkGuard.register(client)
        ForkGuard.register(lazy, discard: .onFirstUse)
        let hook = ForkGuard.onFork(child: { ran.withLock { $0 += 1 } })
        defer { hook.cancel() }
        let held = ForkMutex(1, name: "held", ifTorn: .rebuild { 2 }), free = ForkMutex(1), trapping = ForkMutex(1, name: "trapping")
        let foreign = NSLock(), told = ForkMutex(0)
        try ForkGuard.register(reflecting: foreign, name: "foreign", ifTorn: { told.withLock { $0 += 1 } })
        let holding = Signal(), leave = Signal()
        let holder = TestThread {
            foreign.lock()
            held.withLock { _ in
                trapping.withLock { _ in
                    holding.send()
                    leave.wait()
                }
            }
            foreign.unlock()
        }
        holding.wait()
        @Sendable func check(_ context: ForkContext) {
            context.expect(free.withLock { $0 } == 1)
            context.expect(held.withLock { $0 } == 2, "not rebuilt")
            context.expect(foreign.try(), "the foreign lock is not free")
            foreign.unlock()
            // Once, whoever asks and however often.
            let threads = (0..<4).map { _ in TestThread { _ = ForkGuard.generation } }
            threads.forEach { $0.join() }
            let counts = [client.discarded, lazy.discarded, ran, told].map { $0.withLock { $0 } }
            context.expect(counts == [1, 1, 1, 1], "\(counts)")
            let report = ForkGuard.lastReport
            context.expect(report?.seen == .late && report?.side == .child, "\(String(describing: report))")
            context.expect(
                report?.tornHolders.contains { $0.lockName == "foreign" && $0.torn == .notPrepared } ?? false,
                "\(String(describing: report))")
        }
        for method in Self.bypasses {
            let counts = try ForkTesting.repeated(40, method) { check($0) }
            counts.expectAll("late discoveries after \(method)")
            // A bypass in a child that does not know yet, and one in a child that does.
            let nested = try ForkTesting.run(method) { context in
                let inner = try ForkTesting.run(method, from: .calling) { check($0) }
                context.expect(inner.succeeded, "nested: \(inner)")
            }
            XCTAssert(nested.succeeded, "\(method): \(nested)")
            let trapped = try ForkTesting.run(method) { _ in trapping.withLock { $0 += 1 } }
            guard case .signalled(SIGILL) = trapped.ending else { return XCTFail("\(method): \(trapped)") }
            // Standard error cannot be captured in a child that has the parent's table of descriptors.
            guard method != .rawCloneSharingFiles else { continue }
            let said = trapped.standardError
            XCTAssert(said.contains("lock 'trapping'") && said.contains("the fork was not prepared"), "\(method): \(trapped)")
        }
        leave.send()
        holder.join()
        XCTAssertEqual(client.discarded.withLock { $0 }, 0)
        XCTAssertEqual([held, free, trapping].map { $0.withLock { $0 } }, [1, 1, 1])
    }

    func test_whatIsRegisteredInTheChildBeforeTheHooksRanIsNotDiscarded() throws {
        let old = Client(), lock = ForkMutex(0)
        ForkGuard.register(old)
        for method in Self.bypasses {
            let outcome = try ForkTesting.run(method) { context in
                let new = Client()
                // The child finds out inside a section, where hooks cannot run.
                lock.withLock { _ in
                    _ = ForkGuard.generation
                    ForkGuard.register(new)
                }
                _ = ForkGuard.generation
                context.expect(old.discarded.withLock { $0 } == 1 && new.discarded.withLock { $0 } == 0, "the child's own was discarded")
            }
            XCTAssert(outcome.succeeded, "\(method): \(outcome)")
        }
    }

    func test_behaviour29_aChildThatSharesTheTableOfDescriptorsLeavesThemAlone() throws {
        let client = Client()
        ForkGuard.register(client)
        let descriptor = open("/dev/null", O_RDONLY)
        defer { close(descriptor) }
        for _ in 0..<20 {
            let outcome = try ForkTesting.run(.rawCloneSharingFiles) { context in
                _ = ForkGuard.generation
                context.expect(client.discarded.withLock { $0 } == 1)
            }
            XCTAssert(outcome.succeeded, "\(outcome)")
            XCTAssertNotEqual(fcntl(descriptor, F_GETFD), -1)
        }
    }
}
