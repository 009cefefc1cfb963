import XCTest

/// Bad moments: signals, cancellation, a survivor that nobody knows, handlers that ask early, forks that wait for each other.
final class AdversityTests: XCTestCase {
    func test_aSurvivorThatNobodyKnows() throws {
        for denied in [[], ["madvise=22"], ["membarrier=38"], ["madvise=22", "membarrier=38"]] {
            try Probe.run("unknown-survivor", denying: denied).expectSuccess(printing: "101 unknown survivors ok")
        }
    }

    func test_aChildHandlerBeforeOursThatAsks() throws {
        try Probe.run("early-handler").expectSuccess(printing: "50 early questions ok")
        try Probe.run("early-handler", denying: ["madvise=22"]).expectSuccess(printing: "50 early questions ok")
    }

    func test_behaviour19_patienceEndsAlsoUnderSignals() throws {
        try Probe.run("signals").expectSuccess(printing: "5 forks beside signals")
    }

    func test_aForkerWithACancellationPendingForksToTheEnd() throws {
        try Probe.run("cancelled").expectSuccess(printing: "20 cancelled forkers ok")
        try Probe.run("cancelled-alone").expectSuccess(printing: "cancelled alone ok")
    }

    func test_aWakeUpThatGoesToAThreadWhichParksIsPassedOn() throws {
        try Probe.run("carried-wake").expectSuccess(printing: "40 forks, ")
    }

    func test_behaviour15_onlyTheHolderIsTornAtTheDeadlineNotWhoPassesBy() throws {
        try Probe.run("bystanders").expectSuccess(printing: "300 forks past the deadline")
    }

    func test_ofTwoThatForkWhileTheyHoldOneIsRefusedAtOnce() throws {
        try Probe.run("both-hold").expectSuccess(printing: "refused, ")
        try Probe.run("borrower").expectSuccess(printing: "50 borrowers refused")
    }

    func test_aForkInAHookThatRunsLateOwesEverythingAnew() throws {
        try Probe.run("owed-fork").expectSuccess(printing: "20 owed forks ok")
    }

    func test_whoWasPreparedIsToldAtTheFirstUseAlsoIfCancelledMeanwhile() throws {
        try Probe.run("first-use-cancelled").expectSuccess(printing: "20 cancelled before their use ok")
    }

    func test_forksWithoutTheirTurnBesideOthers() throws {
        try Probe.run("without-turn").expectSuccess(printing: "10 forks without their turn ok")
    }

    func test_whatAnUnknownSurvivorThatLosesItsPatienceLocksIsItsOwn() throws {
        try Probe.run("unknown-breach").expectSuccess(printing: "5 breaches by unknown survivors ok")
    }

    func test_aForkInAHookHasNoLockOfTheCLibraryWhileOtherHandlersRun() throws {
        try Probe.run("hook-streams").expectSuccess(printing: "200 forks in a hook beside a library's lock")
    }

    func test_theFirstThreadIsMadeInAHook() throws {
        try Probe.run("first-thread").expectSuccess(printing: "a child's thread opens a file")
    }

    func test_aSlotIsUsedAgainAsNew() throws {
        try Probe.run("slot-again").expectSuccess(printing: "3 forks close nothing")
    }

    func test_aForkInAHandlerOfSomebodyElses() throws {
        try Probe.run("handler-fork").expectSuccess(printing: "50 forks in handlers ok")
    }

    func test_handlersWithTheForkLeftOut() throws {
        try Probe.run("stubbed").expectSuccess(printing: "3000 forks left out")
    }
}
