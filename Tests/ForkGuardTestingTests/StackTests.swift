import ForkGuardTesting
import XCTest

#if os(Linux)
    /// With gdb and without.
    final class StackTests: XCTestCase {
        private func withChildThatWaits(_ body: @escaping (pid_t) throws -> Void) throws {
            let mutex = PlainMutex()
            mutex.lock()
            let child = libcFork()
            if child == 0 {
                _ = waitForTheLockThatSomebodyHeld(mutex)
                _exit(0)
            }
            defer {
                kill(child, SIGKILL)
                waitpid(child, nil, 0)
            }
            sleepMilliseconds(100)
            try body(child)
        }

        func testWithGdb() throws {
            try withChildThatWaits { child in
                let stack = ProcessStack.read(child)
                try XCTSkipIf(stack.contains("without gdb"), "\(stack)")
                XCTAssertTrue(stack.hasPrefix("Thread "), stack)
                XCTAssertTrue(stack.contains("waitForTheLockThatSomebodyHeld"), stack)
            }
        }

        func testWithoutGdb() throws {
            try withChildThatWaits { child in
                let stack = ProcessStack.read(child, gdb: "/nowhere/gdb")
                XCTAssertTrue(stack.contains("without gdb"), stack)
                XCTAssertTrue(stack.contains("Thread \(child)"), stack)
                XCTAssertTrue(stack.contains("state S"), stack)
                XCTAssertTrue(stack.contains("futex"), stack)
                // What a name can be found for depends on what the executable exports; the C library does.
                XCTAssertTrue(stack.contains("libc"), stack)
            }
        }

        func testADebuggerThatFailsOrTakesTooLong() throws {
            let slow = "/tmp/forkguard-slow-gdb-\(getpid())"
            try "#!/bin/sh\nexec sleep 60\n".write(toFile: slow, atomically: true, encoding: .utf8)
            chmod(slow, 0o755)
            defer { unlink(slow) }
            try withChildThatWaits { child in
                XCTAssertTrue(ProcessStack.read(child, gdb: "/bin/false").contains("futex"))
                let time = seconds { XCTAssertTrue(ProcessStack.read(child, gdb: slow, timeout: .milliseconds(300)).contains("futex")) }
                XCTAssertLessThan(time, 5)
                let own = seconds { _ = ProcessStack.read(getpid(), gdb: slow, timeout: .milliseconds(300)) }
                XCTAssertLessThan(own, 8)
            }
            XCTAssertFalse(hasChildren())
        }

        func testTheRunnersOwn() throws {
            XCTAssertTrue(ProcessStack.read(getpid()).contains("Thread "))
        }

        func testAProcessThatIsGone() {
            XCTAssertTrue(ProcessStack.read(0x3fff_ffff).contains("without gdb"))
        }
    }
#endif
