import ForkGuard
import ForkGuardTesting
import Glibc
import XCTest

/// Waiting for what a mutex protects: behaviour 22 for `ForkCondition`.
final class ForkConditionTests: XCTestCase {
    struct Refused: Error {}

    func test_itWaitsUntilReadyAndNotLonger() throws {
        let mutex = ForkMutex([Int]()), changed = ForkCondition(name: "changed")
        let producer = TestThread {
            for number in 0..<1000 {
                mutex.withLock { $0.append(number) }
                changed.signal()
            }
        }
        var received: [Int] = []
        while received.count < 1000 {
            received += try changed.wait(mutex, timeout: .seconds(10), until: { !$0.isEmpty }) { list in
                defer { list = [] }
                return list
            }
        }
        producer.join()
        XCTAssertEqual(received, Array(0..<1000))

        let began = ContinuousClock.now
        XCTAssertThrowsError(try changed.wait(mutex, timeout: .milliseconds(30), until: { _ in false }) { _ in }) {
            guard case .timedOut(let what)? = $0 as? ForkError else { return XCTFail("\($0)") }
            XCTAssert(what.contains("condition 'changed', made at ForkGuardTests/ForkConditionTests.swift:"), what)
        }
        XCTAssertGreaterThanOrEqual(ContinuousClock.now - began, .milliseconds(30))
        // Looks once, and throws what the closures throw, with the mutex free after it.
        for timeout in [Duration.zero, .seconds(-1), .seconds(Int64.max / 2)] {
            XCTAssertEqual(try changed.wait(mutex, timeout: timeout, until: { $0.isEmpty }) { $0.count }, 0)
        }
        XCTAssertThrowsError(try changed.wait(mutex, timeout: .zero, until: { _ in throw Refused() }) { _ in }) { XCTAssert($0 is Refused) }
        XCTAssertThrowsError(try changed.wait(mutex, timeout: .zero, until: { _ in true }) { _ in throw Refused() })
        XCTAssertNotNil(mutex.withLockIfAvailable { $0 })
    }

    func test_broadcastWakesAll() throws {
        let gate = ForkMutex((open: false, through: 0)), opened = ForkCondition()
        let threads = (0..<8).map { _ in
            TestThread { _ = try? opened.wait(gate, timeout: .seconds(20), until: { $0.open }) { $0.through += 1 } }
        }
        gate.withLock { $0.open = true }
        opened.broadcast()
        threads.forEach { $0.join() }
        XCTAssertEqual(gate.withLock { $0.through }, 8)
    }

    func test_behaviour22_vanishedWaitersAreForgottenAndNobodyWaitsPastTheDeadline() throws {
        // .rebuild: after a fork that ran no handlers somebody may have been inside.
        let queue = ForkMutex((items: 0, waiting: 0, over: false), name: "queue", ifTorn: .rebuild { (items: 0, waiting: 0, over: false) })
        let changed = ForkCondition(name: "queue changed")
        let waiters = (0..<4).map { _ in
            TestThread {
                queue.withLock { $0.waiting += 1 }
                _ = try? changed.wait(queue, timeout: .seconds(60), until: { $0.over }) { _ in }
            }
        }
        while queue.withLock({ $0.waiting }) < 4 { usleep(100) }
        for method in ForkMethod.available {
            let counts = try ForkTesting.repeated(
                40, method,
                while: [
                    { _ = try? changed.wait(queue, timeout: .milliseconds(1), until: { _ in false }) { _ in } },
                    { changed.broadcast() },
                ]
            ) { context in
                // Nobody is there to signal: time runs out.
                do {
                    try changed.wait(queue, timeout: .milliseconds(20), until: { $0.items > 0 }) { _ in }
                    context.expect(false, "it did not throw")
                } catch { context.expect(error is ForkError) }
                let consumer = TestThread {
                    _ = try? changed.wait(queue, timeout: .seconds(10), until: { $0.items > 0 }) { $0.items -= 1 }
                }
                queue.withLock { $0.items = 1 }
                changed.signal()
                consumer.join()
                context.expect(queue.withLock { $0.items } == 0, "not consumed")
            }
            counts.expectAll("children of four waiters, \(method)")
        }
        queue.withLock { $0.over = true }
        changed.broadcast()
        waiters.forEach { $0.join() }
    }

    func test_aForkDoesNotWaitForAThreadThatWaits() throws {
        let mutex = ForkMutex(0), never = ForkCondition(), started = Signal(), over = ForkMutex(false)
        let thread = TestThread {
            started.send()
            _ = try? never.wait(mutex, timeout: .seconds(30), until: { _ in over.withLock { $0 } }) { _ in }
        }
        started.wait()
        for _ in 0..<20 { XCTAssertEqual(try ForkGuard.fork { 0 }.wait(timeout: .seconds(10)), .exited(0)) }
        XCTAssertEqual(ForkGuard.lastReport?.timedOut, false)
        over.withLock { $0 = true }
        never.broadcast()
        thread.join()
    }
}
