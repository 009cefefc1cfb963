import ForkGuard
import ForkGuardTesting
import Glibc
import XCTest

/// `ForkGuard.fork` and the child as its parent holds it.
final class ChildProcessTests: XCTestCase {
    func test_howAChildEnds() throws {
        XCTAssertEqual(try ForkGuard.fork { 0 }.wait(), .exited(0))
        XCTAssertEqual(try ForkGuard.fork { 42 }.wait(timeout: .seconds(10)), .exited(42))
        let killed = try ForkGuard.fork {
            while true { pause() }
        }
        XCTAssertThrowsError(try killed.wait(timeout: .zero)) {
            XCTAssertEqual($0 as? ForkError, .timedOut(waitingFor: "child process \(killed.pid)"))
        }
        XCTAssertThrowsError(try killed.wait(timeout: .milliseconds(20)))
        try killed.signal(SIGKILL)
        XCTAssertEqual(try killed.wait(timeout: .seconds(10)), .signalled(SIGKILL))
        // The same answer again, and no signal to whoever has the number now.
        XCTAssertEqual(try killed.wait(), .signalled(SIGKILL))
        XCTAssertThrowsError(try killed.signal(SIGKILL)) { XCTAssertEqual($0 as? ForkError, .closed("child process \(killed.pid)")) }
    }

    func test_aBodyThatThrows() throws {
        struct Broken: Error {}
        let outcome = try ForkTesting.run(.rawFork) { context in
            let child = try ForkGuard.fork { throw Broken() }
            context.expect(try child.wait(timeout: .seconds(10)) == .exited(ForkGuard.bodyThrewStatus), "status")
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
        XCTAssert(outcome.standardError.contains("the body of the child threw Broken()"), outcome.standardError)
    }

    func test_theBodyRunsOnAFreshThreadOrOnTheCallingOne() throws {
        let mine = pthread_self()
        let fresh = try ForkGuard.fork { pthread_self() == mine ? 1 : 0 }
        XCTAssertEqual(try fresh.wait(timeout: .seconds(10)), .exited(0))
        let calling = try ForkGuard.fork(options: .onCallingThread) { pthread_self() == mine ? 0 : 1 }
        XCTAssertEqual(try calling.wait(timeout: .seconds(10)), .exited(0))
    }

    func test_aChildOfAnotherProcessIsRefused() throws {
        let child = try ForkGuard.fork {
            while true { pause() }
        }
        let outcome = try ForkTesting.run(.rawFork) { context in
            do {
                try child.signal(SIGKILL)
                context.fail("a parent's child was signalled")
            } catch ForkError.staleGeneration {}
            do {
                try child.wait(timeout: .zero)
                context.fail("a parent's child was waited for")
            } catch ForkError.staleGeneration {}
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
        try child.signal(SIGTERM)
        XCTAssertEqual(try child.wait(timeout: .seconds(10)), .signalled(SIGTERM))
    }

    func test_whatIsBufferedIsPrintedOnceAndNoExitHandlerOfTheParentRuns() throws {
        // In a child of its own, whose standard output the kit captures through a pipe: fully buffered.
        let outcome = try ForkTesting.run(.rawFork) { context in
            atexit { print("the parent's exit handler") }
            print("parent before")
            let child = try ForkGuard.fork {
                print("child")
                return 0
            }
            context.expect(try child.wait(timeout: .seconds(10)) == .exited(0), "child")
            fflush(nil)
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
        XCTAssertEqual(outcome.standardOutput, "parent before\nchild\n")
    }

    func test_manyThreadsWaitForOneChild() throws {
        for _ in 0..<50 {
            let start = Signal()
            let child = try ForkGuard.fork {
                usleep(1000)
                return 3
            }
            let endings = ForkMutex<[ChildProcess.Ending?]>([])
            let threads = (0..<4).map { index in
                TestThread {
                    start.wait()
                    let ending = try? child.wait(timeout: index % 2 == 0 ? nil : .seconds(10))
                    endings.withLock { $0.append(ending) }
                }
            }
            for _ in threads { start.send() }
            threads.forEach { $0.join() }
            XCTAssertEqual(endings.withLock { $0 }, [.exited(3), .exited(3), .exited(3), .exited(3)])
        }
    }
}
