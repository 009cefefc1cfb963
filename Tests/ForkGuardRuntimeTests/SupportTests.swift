import XCTest

/// What is on where, and whether the toolchain at hand is the one that was looked at.
final class SupportTests: XCTestCase {
    func test_everythingIsOnHereAndTheStartIsShort() throws {
        let probe = try RuntimeProbe.run("support")
        for cure in ["swift-runtime", "thread-ids", "c-library", "process-locks", "dispatch", "concurrency"] {
            XCTAssert(probe.output.contains("\(cure): on, "), probe.output)
        }
        // Not a figure for performance but a bound of the design: 5 ms. The best of some, because the machine is shared.
        let times = try (0..<10).map { _ in try milliseconds(RuntimeProbe.run("support").output) }
        XCTAssertLessThan(try XCTUnwrap(times.min()), 5)
        print("checks at start: \(times.min() ?? 0) to \(times.max() ?? 0) ms")
    }

    private func milliseconds(_ output: String) throws -> Double {
        let line = try XCTUnwrap(output.split(separator: "\n").first { $0.hasPrefix("start: ") })
        return try XCTUnwrap(Double(line.split(separator: " ")[1]))
    }

    func test_theEnvironmentKeepsItOff() throws {
        let probe = try RuntimeProbe.run("support", environment: ["FORKGUARD_RUNTIME": "off"])
        XCTAssertFalse(probe.output.contains(": on, "), probe.output)
        XCTAssert(probe.output.contains("swift-runtime: off, FORKGUARD_RUNTIME=off is in the environment"), probe.output)
        XCTAssert(probe.output.contains(" 0 imports"), probe.output)
    }

    func test_aMistakenSettingIsNamed() throws {
        let probe = try RuntimeProbe.run("support", environment: ["FORKGUARD_RUNTIME": "on"])
        XCTAssert(probe.error.contains("FORKGUARD_RUNTIME is 'on', which is neither 'off' nor 'untested'"), probe.error)
        XCTAssert(probe.output.contains("swift-runtime: on, "), probe.output)
    }

    /// Everything by which the Swift runtime can wait or hold something: a function that is not in this list is one that nobody has thought about.
    func test_theRuntimeImportsNoLockThatIsNotLed() throws {
        let probe = try RuntimeProbe.run("imports")
        let waits = [
            "lock", "mutex", "cond_", "once", "guard", "sem_", "futex", "syscall", "wait", "barrier", "thrd_", "mtx_", "cnd_", "dlopen",
        ]
        let led: Set = [
            "pthread_mutex_lock", "pthread_mutex_unlock", "pthread_mutex_trylock", "swift_once", "__cxa_guard_acquire",
            "__cxa_guard_release",
            "__cxa_guard_abort", "syscall", "dlopen", "clock_gettime",
        ]
        // What neither waits for another thread nor leaves anything locked, or what glibc repairs in a child (streams).
        let harmless: Set = [
            "pthread_mutex_init", "pthread_mutex_destroy", "pthread_mutexattr_init", "pthread_mutexattr_settype",
            "pthread_mutexattr_destroy",
            "flockfile", "funlockfile", "_swift_stdlib_flockfile_stdout", "_swift_stdlib_funlockfile_stdout", "waitpid", "clock_gettime",
            "clock_getres", "pthread_cond_init", "pthread_cond_destroy", "newlocale",
        ]
        var seen: Set<String> = []
        for line in probe.output.split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            guard words.count == 3, let name = words.dropFirst().first else { continue }
            // Mangled names are other Swift libraries' functions; what they come down to is looked at there.
            guard !name.hasPrefix("$s"), !name.hasPrefix("_Z"), waits.contains(where: name.contains) else { continue }
            seen.insert(name)
            if harmless.contains(name) { continue }
            XCTAssert(led.contains(name) && words[2] == "led", "\(words[0]) imports \(name), which is not led through the gate")
        }
        for needed in ["pthread_mutex_lock", "pthread_mutex_unlock", "syscall", "__cxa_guard_acquire"] {
            XCTAssert(seen.contains(needed), "the Swift runtime does not import \(needed) any more: how does it lock?")
        }
        print("looked at:", seen.sorted().joined(separator: " "))
        let fingerprint = probe.output.split(separator: "\n").last.map(String.init)
        XCTAssertEqual(
            fingerprint, "fingerprint 0x4e054cc59de5e68e", "another runtime than Swift 6.3.1's: look at it before it is added to start.c")
    }
}
