import CForkGuard
import ForkGuard
import ForkGuardTesting
import Foundation
import XCTest

/// Workers that tasks use, beside threads, in one process and over forks: behaviour 41.
final class AsyncWorkerTests: XCTestCase {
    typealias Worker = ForkWorker<Int, Int>

    /// A worker that is inside request 0 until it is told to go on; what it has handled is in the log.
    private final class Slow: Sendable {
        let worker: Worker
        let handled = ForkMutex<[Int]>([], name: "handled")
        private let begun = Signal(), leave = Signal()
        private let first: ForkReply<Int>

        init(capacity: Int, inChild: Worker.InChild = .restarts) throws {
            let (handled, begun, leave) = (handled, begun, leave)
            worker = try ForkWorker(name: "slow", capacity: capacity, inChild: inChild) { number in
                if number == 0 {
                    begun.send()
                    leave.wait()
                }
                handled.withLock { $0.append(number) }
                return number * 2
            }
            first = try worker.submit(0, timeout: .seconds(10))
            begun.wait()
        }

        func goOn() throws {
            leave.send()
            _ = try first.wait(timeout: .seconds(10))
        }
    }

    /// Until nothing is left to be handled, the last of which is answered.
    private func finish(_ worker: Worker) throws {
        worker.finish()
        try worker.join(timeout: .seconds(20))
    }

    func test_eachRequestIsHandledOnceAndAnswered() throws {
        let handled = ForkMutex([Int](repeating: 0, count: 1000))
        let worker = try Worker(capacity: 4) { number in
            handled.withLock { $0[number] += 1 }
            if number == 13 { throw ForkPoolTests.Broken() }
            return number * 2
        }
        let tasks = (0..<1000).map { number in
            TestTask {
                number % 2 == 0
                    ? try await worker.call(number, timeout: .seconds(60))
                    : try await worker.submit(number, timeout: .seconds(60)).wait(timeout: .seconds(60))
            }
        }
        for (number, task) in tasks.enumerated() {
            if number == 13 {
                XCTAssertThrowsError(try task.get()) { XCTAssert($0 is ForkPoolTests.Broken, "\($0)") }
            } else {
                XCTAssertEqual(try task.get(), number * 2)
            }
        }
        XCTAssertEqual(handled.withLock { $0 }, Array(repeating: 1, count: 1000))
    }

    func test_tasksAndThreadsGetRoomInTheOrderInWhichTheyCame() throws {
        let slow = try Slow(capacity: 1)
        try slow.worker.submit(1, timeout: .zero)
        var threads: [TestThread] = [], tasks: [TestTask<Void>] = []
        for number in 2..<10 {
            if number % 2 == 0 {
                tasks.append(TestTask { try await slow.worker.submit(number, timeout: .seconds(60)) })
            } else {
                threads.append(TestThread { _ = try! slow.worker.submit(number, timeout: .seconds(60)) })
            }
            // Nothing tells who waits for room; so long, it does.
            usleep(50_000)
        }
        try slow.goOn()
        threads.forEach { $0.join() }
        for task in tasks { try task.get() }
        try finish(slow.worker)
        XCTAssertEqual(slow.handled.withLock { $0 }, Array(0..<10))
    }

    func test_whatIsCancelledBeforeItIsBegunIsNeverHandled() throws {
        let slow = try Slow(capacity: 100)
        let tasks = (1...300).map { number in TestTask { try await slow.worker.call(number, timeout: .seconds(60)) } }
        for (index, task) in tasks.enumerated() where index % 3 == 0 { task.cancel() }
        // Those end while the worker is still inside its first request.
        for (index, task) in tasks.enumerated() where index % 3 == 0 {
            XCTAssertThrowsError(try task.get()) { XCTAssert($0 is CancellationError, "\($0)") }
        }
        XCTAssertEqual(slow.handled.withLock { $0 }, [])
        try slow.goOn()
        for (index, task) in tasks.enumerated() where index % 3 != 0 { XCTAssertEqual(try task.get(), (index + 1) * 2) }
        try finish(slow.worker)
        XCTAssertEqual(Set(slow.handled.withLock { $0 }), Set([0] + (1...300).filter { ($0 - 1) % 3 != 0 }))
    }

    func test_cancellationWhileItWorks() throws {
        let handled = ForkMutex<[Int]>([])
        let worker = try Worker(capacity: 8) { number in
            handled.withLock { $0.append(number) }
            return number * 2
        }
        var cancelled: [Int] = [], answered: [Int] = []
        for round in 0..<10 {
            let numbers = round * 200..<round * 200 + 200
            let tasks = numbers.map { number in TestTask { try await worker.call(number, timeout: .seconds(60)) } }
            for task in tasks.reversed() { task.cancel() }
            for (number, task) in zip(numbers, tasks) {
                do {
                    let answer = try task.get()
                    XCTAssertEqual(answer, number * 2)
                    answered.append(number)
                } catch {
                    XCTAssert(error is CancellationError, "\(error)")
                    cancelled.append(number)
                }
            }
        }
        try finish(worker)
        print("\(answered.count) calls answered, \(cancelled.count) cancelled and not handled")
        XCTAssertGreaterThan(cancelled.count, 0)
        XCTAssertEqual(handled.withLock { $0.sorted() }, answered)
    }

    func test_waitingTasksBlockNoThreadAndEndAtDeadlinesAndClose() throws {
        let slow = try Slow(capacity: 1)
        let count = 50 * ProcessInfo.processInfo.activeProcessorCount
        // One has room and waits for its reply; the others wait for room.
        let reply = try slow.worker.submit(1, timeout: .zero)
        let waiting = (0..<count).map { number in
            TestTask {
                if number % 2 == 0 {
                    _ = try await reply.wait(timeout: .seconds(60))
                } else {
                    _ = try await slow.worker.submit(2, timeout: .seconds(60))
                }
            }
        }
        for timeout in [Duration.seconds(-1), .zero, .milliseconds(50)] {
            let began = ContinuousClock.now
            XCTAssertThrowsError(try TestTask { try await slow.worker.submit(3, timeout: timeout) }.get(seconds: 10)) {
                XCTAssert("\($0)".contains("room in the mailbox of worker 'slow'"), "\($0)")
            }
            XCTAssertThrowsError(try TestTask { try await reply.wait(timeout: timeout) }.get(seconds: 10)) {
                XCTAssert("\($0)".contains("a reply of worker 'slow'"), "\($0)")
            }
            XCTAssertGreaterThanOrEqual(ContinuousClock.now - began, timeout + timeout)
        }
        let cancelled = TestTask { try await reply.wait(timeout: .seconds(60)) }
        cancelled.cancel()
        XCTAssertThrowsError(try cancelled.get(seconds: 10)) { XCTAssert($0 is CancellationError, "\($0)") }
        slow.worker.close()
        for task in waiting {
            XCTAssertThrowsError(try task.get(seconds: 10)) {
                guard case .closed? = $0 as? ForkError else { return XCTFail("\($0)") }
            }
        }
        try slow.goOn()
        XCTAssertEqual(slow.handled.withLock { $0 }, [0])
    }

    func test_behaviour41_tasksOfTheParentThatWaitAreForgottenAndServedInTheParent() throws {
        let inChildren: [Worker.InChild] = [.restarts, .staysStopped]
        for method in [ForkMethod.forkGuard, .rawFork] {
            for inChild in inChildren {
                let slow = try Slow(capacity: 4, inChild: inChild)
                let calls = (1...20).map { number in TestTask { try await slow.worker.call(number, timeout: .seconds(300)) } }
                // The mailbox is full, so the others wait for room.
                let deadline = ContinuousClock.now + .seconds(20)
                while (try? slow.worker.submit(-1, timeout: .zero)) != nil, ContinuousClock.now < deadline { usleep(100) }
                let leave = ForkMutex(false)
                let busy = try Worker(name: "busy", capacity: 2, inChild: inChild) { $0 * 2 }
                let restless = (0..<4).map { number in
                    TestTask {
                        while !leave.withLock({ $0 }) {
                            let call = Task { try await busy.call(number, timeout: .milliseconds(1 + number % 2 * 300_000)) }
                            if number > 1 { call.cancel() }
                            _ = await call.result
                        }
                    }
                }
                let counts = try ForkTesting.repeated(100, method) { context in
                    calls[0].cancel()
                    for worker in [slow.worker, busy] {
                        switch inChild {
                        case .restarts:
                            for number in -20...(-1) {
                                context.expect(try worker.call(number, timeout: .seconds(5)) == number * 2, "another's answer")
                            }
                            calls[1].cancel()
                            worker.close()
                            try worker.join(timeout: .seconds(5))
                        case .staysStopped:
                            do {
                                try worker.submit(-1, timeout: .seconds(5))
                                context.fail("it was taken")
                            } catch {
                                guard case .staleGeneration? = error as? ForkError else { return context.fail("\(error)") }
                            }
                        }
                    }
                }
                counts.expectAll("children of workers that tasks wait for, \(method), \(inChild)")
                leave.withLock { $0 = true }
                for task in restless { try task.get() }
                try slow.goOn()
                for (index, call) in calls.enumerated() { XCTAssertEqual(try call.get(), (index + 1) * 2) }
                try finish(slow.worker)
                XCTAssertEqual(slow.handled.withLock { $0.filter { $0 >= 0 }.sorted() }, Array(0...20))
            }
        }
    }
}
