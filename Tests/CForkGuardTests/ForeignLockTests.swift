import XCTest

/// Locks that are not ours, and conditions: behaviours 20, 21, 22, 24 for every kind of pthread lock, with their controls.
final class ForeignLockTests: XCTestCase {
    func test_behaviour20_21_foreignLocksAreFreeAndWholeInTheChild() throws {
        try Probe.run("foreign").expectSuccess(printing: "kinds, 200 forks each ok")
        try Probe.run("foreign", denying: ["membarrier=38", "madvise=22"]).expectSuccess(printing: "kinds, 200 forks each ok")
    }

    func test_behaviour20_control_withoutARegistrationAChildOfEachKindFails() throws {
        try Probe.run("foreign-control").expectSuccess(printing: "control: one of each of")
    }

    func test_behaviour13_theForkingThreadsOwnForeignLocksStayItsOwn() throws {
        try Probe.run("foreign-own").expectSuccess(printing: "60 forks that hold")
    }

    func test_behaviour15_aForeignHolderThatNeverLetsGoAndAReadLockOfTheForkers() throws {
        let probe = try Probe.run("foreign-torn")
        probe.expectSuccess(printing: "late, named, torn, told")
        XCTAssert(probe.error.contains("lock 'readers', registered at") && probe.error.contains("is torn in this child"), probe.error)
    }

    func test_behaviour14_foreignHoldersThatWaitToForkOrForTheForker() throws {
        try Probe.run("foreign-chain").expectSuccess(printing: "200 forks beside holders that could not let go")
    }

    func test_whatWasLetGoOfByTheTimeThatItsHolderIsStuckIsNotTorn() throws {
        try Probe.run("foreign-let-go").expectSuccess(printing: "not torn")
    }

    func test_behaviour19_whatForkWaitsForIsHeldByAThreadThatWaitsForAForeignLock() throws {
        try Probe.run("foreign-stream").expectSuccess(printing: "300 forks beside streams that wait for a lock")
    }

    func test_ofTwoThatForkWhileTheyHoldForeignLocksOneIsRefusedAtOnce() throws {
        try Probe.run("foreign-both-hold").expectSuccess(printing: "100 rounds, ")
    }

    func test_behaviour4_aLockThatIsRegisteredAgainWhileForksUseIt() throws {
        try Probe.run("foreign-again").expectSuccess(printing: "100 forks beside registrations ok")
    }

    func test_behaviour24_whatCannotBeRegisteredAndLocksThatLieFailOrAreFreed() throws {
        let probe = try Probe.run("foreign-wrong")
        probe.expectSuccess(printing: "refused, dropped, named")
        for name in ["unmapped", "overwritten", "wreck"] {
            XCTAssert(probe.error.contains("lock '\(name)', registered at") && probe.error.contains("unregister it first"), probe.error)
        }
    }

    func test_behaviour27_foreignLocksAfterForksThatRanNoHandlers() throws {
        try Probe.run("foreign-late").expectSuccess(printing: "200 late discoveries ok")
        try Probe.run("foreign-late", denying: ["madvise=22"]).expectSuccess(printing: "200 late discoveries ok")
    }

    func test_behaviour22_conditionsWithVanishedWaiters() throws {
        try Probe.run("condition").expectSuccess(printing: "100 children of 8 waiters ok")
        try Probe.run("condition-control").expectSuccess(printing: "control: the child hung")
        try Probe.run("condition-unlocked").expectTrap(
            saying: "lock 'room'", "wait for condition 'room changed', made at", "does not hold it")
    }
}
