import ForkGuard
import ForkGuardTesting
import XCTest

/// Order and registration: behaviours 1 to 8.
final class OrderTests: XCTestCase {
    func test_behaviour1_prepareNewestFirstParentAndChildOldestFirst() throws {
        let log = Log()
        let registrations = (1...3).map { number in
            ForkGuard.onFork(
                name: "\(number)",
                prepare: { log.add("prepare \(number)") }, parent: { log.add("parent \(number)") }, child: { log.add("child \(number)") })
        }
        defer { registrations.forEach { $0.cancel() } }
        let noise = ForkMutex(0)
        let prepare = ["prepare 3", "prepare 2", "prepare 1"]
        for method in handledMethods {
            for _ in 0..<50 {
                let outcome = try ForkTesting.run(method, while: [{ noise.withLock { $0 += 1 } }]) { _ in log.take() }
                XCTAssertEqual(try outcome.get(), prepare + ["child 1", "child 2", "child 3"])
                XCTAssertEqual(log.take(), prepare + ["parent 1", "parent 2", "parent 3"])
            }
        }
    }

    func test_behaviour2_aCancelledRegistrationIsNotCalled() throws {
        let log = Log()
        let kept = ForkGuard.onFork(prepare: { log.add("kept") })
        let cancelled = ForkGuard.onFork(prepare: { log.add("cancelled") }, child: { log.add("cancelled") })
        defer { kept.cancel() }
        cancelled.cancel()
        cancelled.cancel()
        for method in handledMethods {
            let outcome = try ForkTesting.run(method) { context in
                cancelled.cancel()
                return log.take()
            }
            XCTAssertEqual(try outcome.get(), ["kept"])
            XCTAssertEqual(log.take(), ["kept"])
        }
        // One that is cancelled and whose place was taken by another does not cancel that one.
        let other = ForkGuard.onFork(prepare: { log.add("other") })
        defer { other.cancel() }
        cancelled.cancel()
        _ = try ForkTesting.run(.rawFork) { _ in }
        XCTAssertEqual(log.take(), ["other", "kept"])
    }

    func test_behaviour3_registeringAndCancellingInsideHooksCountsFromTheNextFork() throws {
        for phase in ["prepare", "parent", "child"] {
            let log = Log()
            let late = ForkMutex<[ForkRegistration]>([])
            let victim = ForkGuard.onFork(
                prepare: { log.add("victim") }, parent: { log.add("victim") }, child: { log.add("victim") })
            let act: @Sendable () -> Void = {
                guard late.withLock({ $0.isEmpty }) else { return }
                victim.cancel()
                let new = ForkGuard.onFork(prepare: { log.add("new") }, parent: { log.add("new") }, child: { log.add("new") })
                late.withLock { $0.append(new) }
            }
            let actor = ForkGuard.onFork(
                prepare: phase == "prepare" ? act : nil, parent: phase == "parent" ? act : nil, child: phase == "child" ? act : nil)
            // The fork in which it happens: the victim, which was there at its beginning, is called in all phases; the new one in none.
            let first = try ForkTesting.run(.rawFork, from: .calling) { context -> [String] in
                let seen = log.take()
                if phase != "child" { return seen }
                // The next fork of the child that did it.
                let grandchild = try ForkGuard.fork { log.take() == ["new", "new"] ? 0 : 1 }
                context.expect(try grandchild.wait(timeout: .seconds(10)) == .exited(0), "the next fork in the child")
                return seen
            }
            XCTAssertEqual(try first.get(), ["victim", "victim"], phase)
            XCTAssertEqual(first.failures, [])
            XCTAssertEqual(log.take(), ["victim", "victim"], phase)
            if phase != "child" {
                let second = try ForkTesting.run(.rawFork) { _ in log.take() }
                XCTAssertEqual(try second.get(), ["new", "new"], phase)
                XCTAssertEqual(log.take(), ["new", "new"], phase)
            }
            late.withLock { $0 }.forEach { $0.cancel() }
            victim.cancel()
            actor.cancel()
        }
    }

    func test_behaviour4_threadsRegisterWhileOthersFork() throws {
        let calls = ForkMutex((prepare: 0, child: 0))
        let steady = ForkGuard.onFork(
            prepare: { calls.withLock { $0.prepare += 1 } }, parent: { calls.withLock { $0.prepare -= 1 } },
            child: { calls.withLock { $0.child = $0.prepare } })
        defer { steady.cancel() }
        let churn: @Sendable () -> Void = {
            let balance = ForkMutex(0)
            let registrations = (0..<5).map { _ in
                ForkGuard.onFork(
                    prepare: { balance.withLock { $0 += 1 } }, parent: { balance.withLock { $0 -= 1 } },
                    child: { balance.withLock { precondition($0 > 0, "child without prepare") } })
            }
            registrations.forEach { $0.cancel() }
        }
        for method in [ForkMethod.forkGuard, .rawFork] {
            let counts = try ForkTesting.repeated(300, method, concurrently: 4, while: [churn, churn]) { context in
                context.expect(calls.withLock { $0.child } == 1, "\(calls.withLock { $0.child }) prepares")
            }
            counts.expectAll("children while others register, \(method)")
        }
        XCTAssertEqual(calls.withLock { $0.prepare }, 0)
    }

    func test_behaviour5_aReleasedResourceIsNeitherCalledNorKeptAlive() throws {
        final class Resource: ForkSafe {
            let log: Log
            init(_ log: Log) { self.log = log }
            func prepareForFork() { log.add("prepare") }
            func discardAfterFork() { log.add("discard") }
            deinit { log.add("deinit") }
        }
        let log = Log()
        var resource: Resource? = Resource(log)
        let registration = ForkGuard.register(resource!)
        XCTAssertEqual(try ForkTesting.run(.rawFork) { _ in log.take() }.get(), ["prepare", "discard"])
        XCTAssertEqual(log.take(), ["prepare"])
        withExtendedLifetime(resource) {}
        resource = nil
        XCTAssertEqual(log.take(), ["deinit"])
        XCTAssertEqual(try ForkTesting.run(.rawFork) { _ in log.take() }.get(), [])
        registration.cancel()
        // In a process that never forks the dead do not collect either.
        let before = registeredCount()
        for _ in 0..<10_000 { ForkGuard.register(Resource(Log())) }
        XCTAssertLessThan(registeredCount(), before + 500)
    }

    func test_behaviour6_aHookThatFailsDoesNotStopTheOthers() throws {
        struct Broken: Error {}
        let log = Log()
        let registrations = [
            ForkGuard.onFork(prepare: { log.add("first") }, child: { log.add("first") }),
            ForkGuard.onFork(name: "the broken one", prepare: { throw Broken() }, parent: { throw Broken() }, child: { throw Broken() }),
            ForkGuard.onFork(prepare: { log.add("last") }, child: { log.add("last") }),
        ]
        defer { registrations.forEach { $0.cancel() } }
        let outcome = try ForkTesting.run(.rawFork, from: .calling) { context in
            let report = ForkGuard.lastReport
            context.expect(
                report?.hookFailures.map { "\($0.name) \($0.phase)" } == ["the broken one prepare", "the broken one child"],
                "\(String(describing: report))")
            return log.take()
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
        XCTAssertEqual(outcome.value, ["last", "first", "first", "last"])
        let report = try XCTUnwrap(ForkGuard.lastReport)
        XCTAssertEqual(report.hookFailures.map { "\($0.name) \($0.phase)" }, ["the broken one prepare", "the broken one parent"])
        XCTAssert(report.description.contains("hook 'the broken one' failed in prepare"), report.description)
    }

    func test_behaviour7_hooksOfAChildRunInTheGrandchild() throws {
        let log = Log()
        let inherited = ForkGuard.onFork(child: { log.add("inherited") })
        defer { inherited.cancel() }
        for method in handledMethods {
            let outcome = try ForkTesting.run(method) { context in
                context.expect(log.take() == ["inherited"], "once in the child")
                ForkGuard.onFork(child: { log.add("own") })
                for _ in 0..<2 {
                    let grandchild = try ForkGuard.fork { log.take() == ["inherited", "own"] ? 0 : 1 }
                    context.expect(try grandchild.wait(timeout: .seconds(10)) == .exited(0), "both in the grandchild")
                }
            }
            XCTAssert(outcome.succeeded, "\(method): \(outcome)")
        }
    }

    func test_behaviour8_forkGuardForkInsideAHookThrowsAndNamesIt() throws {
        for phase in ["prepare", "parent", "child"] {
            let caught = Log()
            let act: @Sendable () -> Void = {
                do {
                    _ = try ForkGuard.fork { 0 }
                    caught.add("forked")
                } catch { caught.add("\(error)") }
            }
            let registration = ForkGuard.onFork(
                name: "the forking hook",
                prepare: phase == "prepare" ? act : nil, parent: phase == "parent" ? act : nil, child: phase == "child" ? act : nil)
            defer { registration.cancel() }
            for method in handledMethods {
                let outcome = try ForkTesting.run(method) { _ in caught.take() }
                let seen = (try outcome.get()) + caught.take()
                XCTAssertGreaterThan(seen.count, 0)
                for message in seen { XCTAssert(message.contains("inside the hook 'the forking hook'"), message) }
            }
        }
    }
}
