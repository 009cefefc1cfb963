import XCTest

/// What the kernel refuses, and what callers do wrong: each has a defined outcome and a message.
final class FaultTests: XCTestCase {
    func test_behaviour9_aForkThatFails() throws {
        try Probe.run("fork-fails").expectSuccess(printing: "400 failed forks ok")
    }

    func test_membarrierRefusedAtStart() throws {
        let probe = try Probe.run("start", denying: ["membarrier=1"])
        probe.expectSuccess(printing: "50 children ok")
        XCTAssert(probe.error.contains("membarrier(2) is refused here"), probe.error)
        try Probe.run("survivor", denying: ["membarrier=38"]).expectSuccess(printing: "200 survivors ok")
        try Probe.run("methods", denying: ["membarrier=38", "madvise=22"]).expectSuccess(printing: "72 chains ok")
    }

    func test_membarrierRefusedLater() throws {
        let probe = try Probe.run("sandbox")
        probe.expectSuccess(printing: "100 children ok")
        XCTAssert(probe.error.contains("entered a sandbox"), probe.error)
    }

    func test_noMemoryForOneMoreThread() throws {
        try Probe.run("no-memory").expectTrap(saying: "no memory for the state of one more thread", "mmap(2)")
    }

    func test_absurdDeadlines() throws {
        for absurd in ["0", "-1", "3600001", "99999999999999999999", "soon", "5s", " 5", "0x10"] {
            let probe = try Probe.run("start", environment: ["FORKGUARD_DEADLINE_MS": absurd])
            probe.expectSuccess(printing: "deadline 5000")
            XCTAssert(probe.error.contains("FORKGUARD_DEADLINE_MS is '\(absurd)'"), probe.error)
        }
        for (sane, milliseconds) in [("1500", 1500), ("3600000", 3_600_000)] {
            let probe = try Probe.run("start", environment: ["FORKGUARD_DEADLINE_MS": sane])
            probe.expectSuccess(printing: "deadline \(milliseconds)")
            XCTAssertEqual(probe.error, "")
        }
    }

    func test_reportsAreSwitchedByTheEnvironment() throws {
        let probe = try Probe.run("start", environment: ["FORKGUARD_REPORT": "1"])
        probe.expectSuccess(printing: "50 children ok")
        let reports = probe.error.split(separator: "\n").filter { $0.hasPrefix("ForkGuard: fork ") }
        XCTAssertEqual(reports.count, 50, probe.error)
        XCTAssert(reports.allSatisfy { $0.contains("in the parent") }, probe.error)
        let absurd = try Probe.run("start", environment: ["FORKGUARD_REPORT": "yes"])
        XCTAssert(absurd.error.contains("FORKGUARD_REPORT is 'yes'"), absurd.error)
    }

    func test_lockingTwiceIsATrapThatNamesTheLock() throws {
        try Probe.run("lock-twice").expectTrap(saying: "lock 'accounts', made at", "locks.c:", "locked twice on one thread", "What to do")
    }

    func test_unlockingWhatOneDoesNotHold() throws {
        try Probe.run("unlock-free").expectTrap(saying: "'accounts'", "locks.c:", "nobody holds it")
        try Probe.run("unlock-other").expectTrap(saying: "'accounts'", "locks.c:", "thread that does not hold it")
    }

    func test_behaviour15_23_aHolderThatNeverLetsGo() throws {
        let probe = try Probe.run("torn")
        probe.expectSuccess(printing: "torn, told, mended")
        // The holder is named also where another thread's memory cannot be read with a system call made for it.
        try Probe.run("torn", denying: ["process_vm_readv=1"]).expectSuccess(printing: "torn, told, mended")
        XCTAssert(probe.error.contains("'accounts'") && probe.error.contains("did not leave before the deadline"), probe.error)
    }
}
