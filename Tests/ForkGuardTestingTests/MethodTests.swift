import ForkGuardTesting
import XCTest

#if os(Linux)
    @_silgen_name("gettid") private func gettid() -> pid_t

    final class MethodTests: XCTestCase {
        private struct Who: Codable {
            var process, parent, group, thread: Int32
        }

        func testEveryMethodMakesAChildOfTheRunner() throws {
            XCTAssertTrue(ForkMethod.available.count >= 5, "\(ForkMethod.available)")
            for method in ForkMethod.allCases {
                for thread in ForkThread.allCases {
                    let outcome = try ForkTesting.run(method, from: thread) { context in
                        context.expect(context.runner == getppid())
                        return Who(process: getpid(), parent: getppid(), group: getpgrp(), thread: gettid())
                    }
                    guard method.isAvailable else {
                        XCTAssertNotNil(outcome.refusal, "\(outcome)")
                        continue
                    }
                    XCTAssertTrue(outcome.succeeded, "\(method): \(outcome)")
                    let who = try outcome.get()
                    XCTAssertEqual(who.parent, getpid(), "\(method)")
                    XCTAssertNotEqual(who.process, getpid(), "\(method)")
                    XCTAssertEqual(who.group, who.process, "\(method)")
                    if method == .forkGuard {
                        XCTAssertNotEqual(who.thread, who.process, "the body must be on a fresh thread")
                    } else {
                        XCTAssertEqual(who.thread, who.process, "\(method): the body must be on the thread that forked")
                    }
                }
            }
        }

        func testForkHandlersRunForTheMethodsThatSayIt() throws {
            _ = countChildHandlers
            for method in ForkMethod.available {
                let calls = try ForkTesting.run(method) { _ in handlerCalls.value }.get()
                XCTAssertEqual(calls, method.runsForkHandlers ? 1 : 0, "\(method)")
            }
        }

        func testSharedDescriptorsAreShared() throws {
            let outcome = try ForkTesting.run(.rawCloneSharingFiles) { _ in open("/dev/null", O_RDONLY) }
            let descriptor = try outcome.get()
            XCTAssertNotEqual(fcntl(descriptor, F_GETFD), -1, "what the child opened must be open in the runner")
            close(descriptor)
            let own = try ForkTesting.run(.rawClone) { _ in open("/dev/null", O_RDONLY) }.get()
            XCTAssertEqual(fcntl(own, F_GETFD), -1)
            XCTAssertNotEqual(fcntl(2, F_GETFD), -1)
        }

        func testFromTheCallingThreadAndFromAFreshOne() throws {
            let here = "\(pthread_self())"
            XCTAssertEqual(try ForkTesting.run(.rawFork, from: .calling) { _ in "\(pthread_self())" }.get(), here)
            XCTAssertNotEqual(try ForkTesting.run(.rawFork, from: .fresh) { _ in "\(pthread_self())" }.get(), here)
        }

        func testEveryMethodIsWatched() throws {
            for method in ForkMethod.available {
                let hung = try ForkTesting.run(method, deadline: .milliseconds(300)) { _ -> Int in while true { pause() } }
                XCTAssertTrue(hung.stack?.contains("pause") ?? false, "\(method): \(hung)")
                let crashed = try ForkTesting.run(method, deadline: .seconds(60)) { _ in UnsafePointer<Int>(bitPattern: 8)?.pointee }
                XCTAssertEqual(crashed.signal, SIGSEGV, "\(method): \(crashed)")
            }
            XCTAssertFalse(hasChildren())
        }

        #if canImport(Glibc)
            // musl keeps its lock while a handler runs.
            func testAForkHandlerThatForksIsNotTakenForTheChild() throws {
                _ = countChildHandlers
                forking.pointee = true
                defer { forking.pointee = false }
                for method in [ForkMethod.rawFork, .forkGuard] {
                    let outcome = try ForkTesting.run(method) { _ in getppid() }
                    XCTAssertEqual(outcome.value, getpid(), "\(outcome)")
                    XCTAssertTrue(outcome.succeeded, "\(outcome)")
                    XCTAssertFalse(hasChildren())
                }
            }
        #endif

        func testOutputOfAForkHandlerIsCaptured() throws {
            _ = countChildHandlers
            talkative.pointee = true
            defer { talkative.pointee = false }
            let outcome = try ForkTesting.run(.rawFork) { _ in 1 }
            XCTAssertEqual(outcome.standardError, "a child handler speaks", "\(outcome)")
        }
    }

    private let handlerCalls = Counter()
    nonisolated(unsafe) private let talkative: UnsafeMutablePointer<Bool> = {
        let flag = UnsafeMutablePointer<Bool>.allocate(capacity: 1)
        flag.initialize(to: false)
        return flag
    }()
    nonisolated(unsafe) private let forking: UnsafeMutablePointer<Bool> = {
        let flag = UnsafeMutablePointer<Bool>.allocate(capacity: 1)
        flag.initialize(to: false)
        return flag
    }()
    private let countChildHandlers: Void = {
        _ = (handlerCalls.value, talkative.pointee, forking.pointee)
        let prepare: @convention(c) () -> Void = {
            guard forking.pointee else { return }
            forking.pointee = false
            let pid = libcFork()
            if pid == 0 { _exit(0) }
            waitpid(pid, nil, 0)
            forking.pointee = true
        }
        pthread_atfork(prepare, nil) {
            handlerCalls.increment()
            if talkative.pointee { write(2, "a child handler speaks", 22) }
        }
    }()
#endif
