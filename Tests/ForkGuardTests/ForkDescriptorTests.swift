import CForkGuard
import ForkGuard
import ForkGuardTesting
import Glibc
import XCTest

/// Tokens, and what a child finds under an inherited number. Other tests of the process may have descriptors, too: reports count at least the test's own.
final class ForkDescriptorTests: XCTestCase {
    // ---- one process ----

    func test_behaviour32_aClosedTokenIsRefusedAndTheReusedNumberIsNotTouched() throws {
        var ends: [Int32] = [-1, -1]
        XCTAssertEqual(pipe(&ends), 0)
        defer { close(ends[0]) }
        let token = try ForkDescriptor(adopting: ends[1], name: "first")
        try token.close()
        let other = open("/dev/null", O_WRONLY)
        defer { close(other) }
        XCTAssertEqual(other, ends[1], "the number was not handed out again, so this shows nothing")
        for _ in 0..<2 {
            XCTAssertThrowsError(try token.withNumber { write($0, "x", 1) }) {
                XCTAssertEqual($0 as? ForkError, .closed("first (descriptor \(ends[1]))"))
            }
            XCTAssertThrowsError(try token.close()) { XCTAssertEqual($0 as? ForkError, .closed("first (descriptor \(ends[1]))")) }
        }
        XCTAssertNotEqual(fcntl(other, F_GETFD), -1)
        // Also when the number is adopted again.
        let second = try ForkDescriptor(adopting: other, name: "second")
        XCTAssertTrue(token.isStale)
        XCTAssertNotEqual(token, second)
        XCTAssertThrowsError(try token.close())
        XCTAssertFalse(second.isStale)
        XCTAssertEqual(try second.release(), other)
        XCTAssertTrue(second.isStale)
    }

    func test_aNumberClosedBehindTheTokensBackIsTheNewOnes() throws {
        let number = open("/dev/null", O_WRONLY)
        let old = try ForkDescriptor(adopting: number)
        close(number)
        let again = open("/dev/null", O_RDONLY)
        XCTAssertEqual(again, number)
        let new = try ForkDescriptor(adopting: again)
        XCTAssertTrue(old.isStale)
        XCTAssertThrowsError(try old.close())
        try new.withNumber { XCTAssertNotEqual(fcntl($0, F_GETFD), -1) }
        try new.close()
    }

    func test_badInput() throws {
        let unused = dup(0)
        close(unused)
        XCTAssertThrowsError(try ForkDescriptor(adopting: unused, name: "log")) {
            XCTAssertEqual($0 as? ForkError, .system(call: "adopting descriptor \(unused) (log)", errno: EBADF))
        }
        XCTAssertThrowsError(try ForkDescriptor(adopting: -1))
        XCTAssertThrowsError(try ForkDescriptor(adopting: 1 << 20)) { XCTAssertTrue("\($0)".contains("Too many open files"), "\($0)") }
        XCTAssertThrowsError(try ForkDescriptor(name: "missing") { open("/does/not/exist", O_RDONLY) }) {
            XCTAssertEqual($0 as? ForkError, .system(call: "opening missing", errno: ENOENT))
        }
        struct Refused: Error {}
        XCTAssertThrowsError(try ForkDescriptor { throw Refused() }) { XCTAssertTrue($0 is Refused) }
    }

    func test_aUseInProgressKeepsTheNumberAndIsWokenByClosing() throws {
        var ends: [Int32] = [-1, -1]
        XCTAssertEqual(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends), 0)
        defer { close(ends[1]) }
        let token = try ForkDescriptor(adopting: ends[0]), reading = Signal(), read = ForkMutex(-2)
        let reader = TestThread {
            try? token.withNumber { number in
                reading.send()
                var byte: UInt8 = 0
                let count = Glibc.read(number, &byte, 1)
                // Closed, and still ours.
                XCTAssertNotEqual(fcntl(number, F_GETFD), -1)
                read.withLock { $0 = count }
            }
        }
        reading.wait()
        try token.close()
        reader.join()
        XCTAssertEqual(read.withLock { $0 }, 0)
        XCTAssertEqual(fcntl(ends[0], F_GETFD), -1, "the last use did not close it")
    }

    /// Threads open, close and reuse numbers while others use tokens of them: each file knows its number, so that a stranger's is recognised.
    func test_behaviour32_noUseEverTouchesAStranger() throws {
        struct Shelf: Sendable {
            var token: ForkDescriptor
            var inode: UInt64
        }
        let paths = (0..<8).map { "/tmp/forkguard-\(getpid())-\($0)" }
        defer { paths.forEach { unlink($0) } }
        @Sendable func inode(_ number: Int32) -> UInt64 {
            var status = stat()
            return fstat(number, &status) == 0 ? UInt64(status.st_ino) : 0
        }
        @Sendable func opened(_ path: String) throws -> Shelf {
            let token = try ForkDescriptor(.reopen) { open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600) }
            return Shelf(token: token, inode: try token.withNumber { inode($0) })
        }
        let shelf = ForkMutex<Shelf>(try opened(paths[0])), over = ForkMutex(false)
        let counts = ForkMutex((uses: 0, refused: 0, strangers: 0, reused: 0))
        let threads = (0..<6).map { thread in
            TestThread {
                var index = thread
                while !over.withLock({ $0 }) {
                    let mine = shelf.withLock { $0 }
                    if thread < 2 {
                        index += 1
                        guard let next = try? opened(paths[index % paths.count]) else { continue }
                        let last = shelf.withLock { shelf in
                            defer { shelf = next }
                            return shelf
                        }
                        try? last.token.close()
                        counts.withLock { $0.reused += 1 }
                    } else if let seen = try? mine.token.withNumber({ inode($0) }) {
                        counts.withLock {
                            $0.uses += 1
                            if seen != mine.inode { $0.strangers += 1 }
                        }
                    } else {
                        counts.withLock { $0.refused += 1 }
                    }
                }
            }
        }
        let forks = try ForkTesting.repeated(100) { context in
            // The child's own, whatever the others were doing.
            let mine = try shelf.withLock { $0 }.token.withNumber { inode($0) }
            context.expect(mine == shelf.withLock { $0 }.inode, "the child found a stranger's file")
        }
        while counts.withLock({ $0.reused }) < 20_000 { usleep(1000) }
        over.withLock { $0 = true }
        threads.forEach { $0.join() }
        try shelf.withLock { $0 }.token.close()
        forks.expectAll("children of threads that reuse numbers")
        let seen = counts.withLock { $0 }
        print("uses \(seen.uses), refused \(seen.refused), numbers reused \(seen.reused), strangers touched \(seen.strangers)")
        XCTAssertEqual(seen.strangers, 0)
        XCTAssertGreaterThan(seen.uses, 1000)
        XCTAssertGreaterThan(seen.refused, 0, "no use ever met a closed token, so this shows nothing")
    }

    // ---- the child ----

    func test_aTombstoneForAConnection() throws {
        var ends: [Int32] = [-1, -1]
        XCTAssertEqual(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends), 0)
        let token = try ForkDescriptor(adopting: ends[0], name: "connection"), number = ends[0], peer = ends[1]
        defer { close(peer) }
        let before = ForkGuard.generation
        for method in handledMethods {
            let counts = try ForkTesting.repeated(50, method) { context in
                do {
                    _ = try token.withNumber { write($0, "x", 1) }
                    context.fail("it was used")
                } catch {
                    context.expect(
                        error as? ForkError == .staleGeneration("connection (descriptor \(number))", generation: before), "\(error)")
                }
                // Who has only the number.
                context.expect(write(number, "x", 1) == -1 && errno == EBADF, "write")
                context.expect(send(number, "x", 1, 0) == -1 && (errno == EBADF || errno == ENOTSOCK), "send")
                context.expect(shutdown(number, Int32(SHUT_RDWR)) == -1, "shutdown")
                context.expect(dup(0) != number, "the number was handed out again")
                context.expect((ForkGuard.lastReport?.descriptorsTombstoned ?? 0) >= 1, "\(String(describing: ForkGuard.lastReport))")
                // And in a grandchild.
                let grandchild = try ForkGuard.fork { token.isStale && write(number, "x", 1) == -1 ? 0 : 1 }
                context.expect(try grandchild.wait(timeout: .seconds(5)) == .exited(0), "grandchild")
                // Closing removes the tombstone, and touches nothing of the parent's.
                try token.close()
                context.expect(fcntl(number, F_GETFD) == -1, "the tombstone is still there")
                context.expect(token.isStale)
            }
            counts.expectAll("tombstones, \(method)")
        }
        XCTAssertEqual(write(number, "y", 1), 1)
        var byte: UInt8 = 0
        XCTAssertEqual(read(peer, &byte, 1), 1)
        XCTAssertEqual(byte, UInt8(ascii: "y"), "the peer got something from a child")
        // When the parent closes, the peer sees it, though children that were told live.
        let child = try ForkGuard.fork {
            pause()
            return 0
        }
        try token.close()
        XCTAssertEqual(read(peer, &byte, 1), 0, "a child keeps the connection open")
        try child.signal(SIGKILL)
        _ = try child.wait()
    }

    func test_control_aBareNumberIsTheParentsConnection() throws {
        var ends: [Int32] = [-1, -1]
        XCTAssertEqual(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends), 0)
        let number = ends[0]
        _ = try ForkTesting.run(.rawFork) { _ in _ = write(number, "x", 1) }
        var byte: UInt8 = 0
        XCTAssertEqual(read(ends[1], &byte, 1), 1)
        XCTAssertEqual(byte, UInt8(ascii: "x"), "the unguarded twin does not fail")
        ends.forEach { close($0) }
    }

    func test_behaviour34_aReopenedFileHasItsOwnOffset() throws {
        let path = "/tmp/forkguard-\(getpid())-offset"
        defer { unlink(path) }
        let token = try ForkDescriptor(.reopen, name: "log") { open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600) }
        try token.withNumber { XCTAssertEqual(write($0, "12345", 5), 5) }
        // It does not matter what has become of the name.
        unlink(path)
        for method in handledMethods {
            let outcome = try ForkTesting.run(method) { context in
                try token.withNumber { number in
                    context.expect(lseek(number, 0, SEEK_CUR) == 5, "it begins elsewhere")
                    context.expect(write(number, "67", 2) == 2)
                    context.expect(fcntl(number, F_GETFL) & O_ACCMODE == O_RDWR && fcntl(number, F_GETFD) == FD_CLOEXEC, "flags")
                }
                context.expect((ForkGuard.lastReport?.descriptorsReopened ?? 0) >= 1)
            }
            XCTAssert(outcome.succeeded, "\(outcome)")
            try token.withNumber { XCTAssertEqual(lseek($0, 0, SEEK_CUR), 5, "the child moved the parent's offset") }
        }
        // Control: 5 and 7.
        try token.withNumber { number in
            _ = try ForkTesting.run(.rawClone) { _ in _ = write(number, "67", 2) }
            XCTAssertEqual(lseek(number, 0, SEEK_CUR), 7, "the unguarded twin does not fail")
        }
        try token.close()
    }

    func test_whatCannotBeReopenedHasATombstone() throws {
        var ends: [Int32] = [-1, -1]
        XCTAssertEqual(pipe(&ends), 0)
        let token = try ForkDescriptor(adopting: ends[1], .reopen, name: "pipe"), number = ends[1]
        let outcome = try ForkTesting.run { context in
            context.expect(token.isStale && write(number, "x", 1) == -1)
            context.expect((ForkGuard.lastReport?.descriptorsFailed ?? 0) >= 1)
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
        try token.close()
        close(ends[0])
    }

    func test_aKeptDescriptorGoesOn() throws {
        var ends: [Int32] = [-1, -1]
        XCTAssertEqual(pipe(&ends), 0)
        let token = try ForkDescriptor(adopting: ends[1], .keep, name: "to the parent")
        for method in ForkMethod.available {
            let outcome = try ForkTesting.run(method) { context in
                context.expect(try token.withNumber { write($0, "x", 1) } == 1)
                // A child's to close, not the parent's.
                try token.close()
                context.expect(token.isStale)
            }
            XCTAssert(outcome.succeeded, "\(method): \(outcome)")
            var byte: UInt8 = 0
            XCTAssertEqual(read(ends[0], &byte, 1), 1)
            XCTAssertFalse(token.isStale, "\(method)")
        }
        try token.close()
        close(ends[0])
    }

    func test_behaviour29_afterAForkThatRanNoHandlersTokensAloneRefuse() throws {
        var ends: [Int32] = [-1, -1]
        XCTAssertEqual(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends), 0)
        let token = try ForkDescriptor(adopting: ends[0]), number = ends[0]
        for method in LateTests.bypasses {
            let outcome = try ForkTesting.run(method) { context in
                context.expect(token.isStale)
                try token.close()
                // The table may be the parent's.
                context.expect(fcntl(number, F_GETFD) != -1, "it was closed")
                var status = stat()
                context.expect(fstat(number, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK, "it was tombstoned")
            }
            XCTAssert(outcome.succeeded, "\(method): \(outcome)")
            XCTAssertFalse(token.isStale)
            XCTAssertEqual(send(number, "x", 1, 0), 1)
        }
        try token.close()
        close(ends[1])
    }

    func test_noNumberIsFreeInTheChild() throws {
        var limit = rlimit()
        getrlimit(.init(RLIMIT_NOFILE.rawValue), &limit)
        let most = limit.rlim_max
        let tokens = try (0..<20).map { _ in try ForkDescriptor { socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0) } }
        let file = try ForkDescriptor(.reopen) { open("/dev/null", O_RDONLY) }
        // Takes the last numbers itself, and has a child: ForkTesting's own descriptors are there before.
        let outcome = try ForkTesting.run { context in
            let mine = try (0..<20).map { _ in try ForkDescriptor { socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0) } }
            var low = rlimit(rlim_cur: 128, rlim_max: most)
            setrlimit(.init(RLIMIT_NOFILE.rawValue), &low)
            while dup(0) >= 0 {}
            let child = try ForkGuard.fork {
                guard mine.allSatisfy(\.isStale) else { return 1 }
                let report = ForkGuard.lastReport
                return (report?.descriptorsTombstoned ?? 0) >= 21 && (report?.descriptorsFailed ?? 0) >= 1 ? 0 : 2
            }
            let ending = try child.wait(timeout: .seconds(5))
            context.expect(ending == .exited(0), "\(ending)")
            // The limit below numbers that are open: dup3 refuses those, so they are closed.
            low.rlim_cur = 6
            setrlimit(.init(RLIMIT_NOFILE.rawValue), &low)
            let second = try ForkGuard.fork { mine.allSatisfy(\.isStale) ? 0 : 1 }
            let secondEnding = try second.wait(timeout: .seconds(5))
            context.expect(secondEnding == .exited(0), "\(secondEnding)")
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
        try tokens.forEach { try $0.close() }
        try file.close()
    }

    // ---- closing what was inherited ----

    func test_closeInherited() throws {
        let stray = (0..<50).map { _ in open("/dev/null", O_RDONLY) }
        let wanted = open("/dev/null", O_RDONLY), kept = try ForkDescriptor(.keep) { open("/dev/null", O_RDONLY) }
        let file = try ForkDescriptor(.reopen) { open("/dev/null", O_RDONLY) }
        let connection = try ForkDescriptor { socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0) }
        // What a hook opens is the child's, and stays.
        let fresh = ForkMutex<Int32>(-1)
        let hook = ForkGuard.onFork(child: { fresh.withLock { $0 = open("/dev/null", O_RDONLY) } })
        defer { hook.cancel() }
        for options: ForkOptions in [.closeInherited(except: [wanted]), [.onCallingThread, .closeInherited(except: [wanted, 1_000_000])]] {
            let child = try ForkGuard.fork(options: options) {
                if stray.contains(where: { fcntl($0, F_GETFD) != -1 }) { return 1 }
                if fcntl(wanted, F_GETFD) == -1 { return 2 }
                if kept.isStale || file.isStale { return 3 }
                if !connection.isStale { return 4 }
                if fcntl(fresh.withLock { $0 }, F_GETFD) == -1 { return 5 }
                return (0...2).allSatisfy { fcntl($0, F_GETFD) != -1 } ? 0 : 6
            }
            XCTAssertEqual(try child.wait(timeout: .seconds(10)), .exited(0))
        }
        for number in stray + [wanted] { XCTAssertEqual(close(number), 0) }
        for token in [kept, file, connection] { try token.close() }
        // Not the next one.
        let number = open("/dev/null", O_RDONLY)
        XCTAssertEqual(try ForkGuard.fork { fcntl(number, F_GETFD) == -1 ? 1 : 0 }.wait(timeout: .seconds(10)), .exited(0))
        close(number)
    }

    func test_optionsWithAListOfNumbers() {
        let both: ForkOptions = [.closeInherited(except: [3]), .onCallingThread, .closeInherited(except: [4])]
        XCTAssertEqual(both, [.onCallingThread, .closeInherited(except: [3, 4])])
        XCTAssertNotEqual(both, [.onCallingThread, .closeInherited(except: [3])])
        XCTAssertNotEqual(ForkOptions.closeInherited(), [])
    }

    /// A raw fork inside a use: the child's copy of that use is not counted there, and ending it takes nothing from another's.
    func test_aUseBegunInTheParentDoesNotEndAnothersInTheChild() throws {
        let token = try ForkDescriptor(.keep) { open("/dev/null", O_RDONLY) }
        var child: Int32 = -1
        let using = Signal(), closed = Signal(), isOpen = ForkMutex(false)
        var user: TestThread?
        try token.withNumber { _ in
            child = forkguard_fork(0)
            guard child == 0 else { return }
            alarm(20)
            user = TestThread {
                try? token.withNumber { number in
                    using.send()
                    closed.wait()
                    isOpen.withLock { $0 = fcntl(number, F_GETFD) != -1 }
                }
            }
            using.wait()
        }
        if child == 0 {
            try? token.close()
            closed.send()
            user?.join()
            _exit(isOpen.withLock { $0 } ? 0 : 1)
        }
        var status: Int32 = -1
        XCTAssertEqual(waitpid(child, &status, 0), child)
        XCTAssertEqual(status, 0, "the number was closed under a use")
        try token.close()
    }

    func test_childProcessesAreForgottenInTheChildWithoutTouchingANumber() throws {
        let child = try ForkGuard.fork {
            pause()
            return 0
        }
        let pidfd = try XCTUnwrap(child.pidfd)
        let other = try ForkGuard.fork(options: .closeInherited()) {
            // A tombstone: the number is not handed out while somebody may still close it.
            fcntl(pidfd, F_GETFD) != -1 && dup(0) != pidfd ? 0 : 1
        }
        XCTAssertEqual(try other.wait(timeout: .seconds(10)), .exited(0))
        try child.signal(SIGKILL)
        XCTAssertEqual(try child.wait(timeout: .seconds(10)), .signalled(SIGKILL))
    }
}
