import Foundation
import XCTest

final class ForkGuardHazardsTests: XCTestCase {
    func testHelpNamesEveryOption() throws {
        let hazards = try HazardsProcess(["--help"])
        XCTAssertEqual(hazards.status, 0)
        XCTAssertEqual(hazards.errors, "")
        for option in [
            "--list", "--rows A,B", "--forks N", "--load idle|hammered|alone", "--only guarded|unguarded", "--support", "--json", "--help",
        ] {
            XCTAssert(hazards.output.contains(option), option)
        }
    }

    func testListSaysWhatEachRowIsAbout() throws {
        let hazards = try HazardsProcess(["--list"])
        XCTAssertEqual(hazards.status, 0)
        XCTAssertEqual(hazards.errors, "")
        let lines = hazards.output.split(separator: "\n").map { $0.split(separator: " ", maxSplits: 2).map(String.init) }
        XCTAssert(lines.allSatisfy { $0.count == 3 && ["locked", "handed"].contains($0[1]) && $0[2].hasSuffix(".") }, hazards.output)
        let names = lines.compactMap(\.first)
        XCTAssertEqual(Set(names).count, names.count, "a name stands for two rows")
        for name in [
            "malloc", "stdio", "lazy-global", "metadata", "mutex-held", "nslock", "json", "dlopen", "regex", "task", "dispatch-global",
            "url-session",
        ] {
            XCTAssert(names.contains(name), name)
        }
        let handed = try HazardsProcess(["--list", "--rows", "handed"])
        XCTAssertEqual(handed.output.split(separator: "\n").count, lines.filter { $0[1] == "handed" }.count)
    }

    func testEveryBadArgumentIsNamed() throws {
        try assertUsageError(["--bogus"], "'--bogus' is not an option")
        try assertUsageError(["malloc"], "'malloc' is not an option")
        try assertUsageError(["--json=1"], "--json takes no value")
        try assertUsageError(["--forks"], "--forks needs a value")
        try assertUsageError(["--forks", "0"], "--forks: '0' is not a number from 1 to 100000")
        try assertUsageError(["--forks=many"], "--forks: 'many' is not a number from 1 to 100000")
        try assertUsageError(["--load", "heavy"], "--load: 'heavy' is not 'idle', 'hammered' or 'alone'")
        try assertUsageError(["--only", "both"], "--only: 'both' is not 'guarded' or 'unguarded'")
        // The subject's arguments are nobody else's.
        try assertUsageError(["--subject", "malloc"], "'--subject' is not an option")
        let hazards = try HazardsProcess(["--rows", "malloc,nslok"])
        XCTAssertEqual(hazards.status, 64)
        XCTAssertEqual(hazards.output, "")
        let message = "forkguard-hazards: --rows: there is no row 'nslok'; the nearest are 'nslock', "
        XCTAssert(hazards.errors.hasPrefix(message), hazards.errors)
    }

    private func assertUsageError(_ arguments: [String], _ message: String, line: UInt = #line) throws {
        let hazards = try HazardsProcess(arguments, line: line)
        XCTAssertEqual(hazards.status, 64, line: line)
        XCTAssertEqual(hazards.errors, "forkguard-hazards: \(message); see --help\n", line: line)
        XCTAssertEqual(hazards.output, "", line: line)
    }

    func testJSONHasItsShapeAndItsSumsAreRight() throws {
        let hazards = try HazardsProcess(["--json", "--rows", "malloc,stdio", "--forks", "5"])
        XCTAssertEqual(hazards.status, 0, hazards.errors)
        XCTAssertEqual(hazards.errors, "")
        XCTAssertEqual(hazards.output.filter { $0 == "\n" }.count, 1)
        let objects = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(hazards.output.utf8)) as? [[String: Any]])
        for object in objects {
            XCTAssertEqual(Set(object.keys), ["row", "load", "unguarded", "guarded"])
            let keys: Set = ["forks", "ok", "hung", "crashed", "inside"]
            XCTAssertEqual(Set((object["unguarded"] as? [String: Int] ?? [:]).keys), keys)
            XCTAssertEqual(Set((object["guarded"] as? [String: Int] ?? [:]).keys), keys.union(["refused"]))
        }
        let lines = try lines(hazards)
        XCTAssertEqual(lines.map { "\($0.row) \($0.load)" }, ["malloc idle", "malloc hammered", "stdio idle", "stdio hammered"])
        for line in lines {
            XCTAssertEqual(line.unguarded.forks, 5)
            XCTAssertEqual(line.unguarded.ok + line.unguarded.hung + line.unguarded.crashed, 5)
            XCTAssertEqual(line.guarded.forks, 5)
            XCTAssertEqual(line.guarded.ok + line.guarded.refused + line.guarded.hung + line.guarded.crashed, 5)
            XCTAssertEqual(line.guarded.ok, 5, line.row)
            if line.load == "idle" { XCTAssertEqual(line.unguarded.inside + line.guarded.inside, 0, "who is parked is not inside") }
        }
    }

    func testTableShowsTheSame() throws {
        let hazards = try HazardsProcess(["--rows=malloc", "--forks=3", "--load=idle"])
        XCTAssertEqual(hazards.status, 0, hazards.output)
        XCTAssertEqual(hazards.errors, "", "progress is for terminals")
        let lines = hazards.output.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
        XCTAssertEqual(lines.count, 3, hazards.output)
        XCTAssertEqual(lines.last, ["malloc", "idle", "3/0/0", "of", "3", "0", "3/0/0/0", "of", "3", "0"], hazards.output)
    }

    /// The control: without ForkGuard a lock that another thread holds is never free in the child.
    func testControlHangsAndShowsItsStack() throws {
        let hazards = try HazardsProcess(["--json", "--rows", "nslock", "--load", "hammered", "--only", "unguarded", "--forks", "20"])
        let line = try XCTUnwrap(lines(hazards).first)
        XCTAssertGreaterThan(line.unguarded.hung, 0)
        XCTAssertLessThanOrEqual(line.unguarded.hung, 5, "five tell it well enough")
        XCTAssertGreaterThan(line.unguarded.inside, 0, "the hammer was never inside")
        XCTAssertEqual(line.guarded.forks, 0)
        XCTAssert(hazards.errors.contains("nslock, hammered, unguarded: a child by fork() hung:\n"), hazards.errors)
        XCTAssert(hazards.errors.contains("Thread 1 ") || hazards.errors.contains("(without gdb)"), hazards.errors)
    }

    /// The same, of a lock that no user can see; and what it is for: with ForkGuard it does not.
    func testControlHangsInTheRuntimeAndTheGuardedTwinDoesNot() throws {
        let hazards = try HazardsProcess(["--json", "--rows", "metadata", "--load", "hammered", "--forks", "20"])
        let line = try XCTUnwrap(lines(hazards).first)
        XCTAssertGreaterThan(line.unguarded.hung, 0)
        XCTAssertGreaterThan(line.unguarded.inside, 0, "the hammer was never inside")
        XCTAssertGreaterThan(line.guarded.inside, 0, "the hammer was never inside")
        XCTAssertEqual(line.guarded.hung, 0, hazards.errors)
        XCTAssertEqual(line.guarded.crashed, 0, hazards.errors)
        XCTAssertEqual(line.guarded.forks, 20)
        XCTAssertEqual(hazards.status, 0)
    }

    /// The rows themselves are right: in a child whose parent has nothing and nobody, each has its result.
    func testEveryRowIsRightWhereTheParentHasDoneNothing() throws {
        let hazards = try HazardsProcess(["--json", "--load", "alone", "--forks", "4"])
        let lines = try lines(hazards)
        let list = try HazardsProcess(["--list"])
        XCTAssertEqual(lines.count, list.output.split(separator: "\n").count)
        for line in lines {
            // Of the thread that forked, not of the others.
            if line.row != "lazy-global-contended" { XCTAssertEqual(line.unguarded.ok, 4, "\(line.row): \(hazards.errors)") }
            XCTAssertEqual(line.guarded.ok, 4, "\(line.row): \(hazards.errors)")
        }
        XCTAssertEqual(hazards.status, 0, hazards.errors)
    }

    /// The control of what waits for threads that are gone: it needs no more than a parent that has done it once.
    func testControlHangsOnceTheParentHasHandedOutWork() throws {
        let rows = ["task", "main-actor", "task-fork", "dispatch-global", "dispatch-main", "operation-queue", "url-session"]
        let hazards = try HazardsProcess([
            "--json", "--rows", rows.joined(separator: ","), "--load", "idle", "--only", "unguarded", "--forks", "1",
        ])
        let lines = try lines(hazards)
        XCTAssertEqual(lines.map(\.row), rows)
        for line in lines { XCTAssertEqual(line.unguarded.hung, 1, "\(line.row): \(hazards.errors)") }
    }

    func testSupportSaysWhatIsOn() throws {
        let hazards = try HazardsProcess(["--support"])
        for cure in ["swift-runtime", "thread-ids", "c-library", "core-foundation", "process-locks", "dispatch", "concurrency"] {
            XCTAssert(hazards.output.contains("\(cure): on, "), hazards.output)
        }
        let times = try (0..<10).map { _ in
            let line = try XCTUnwrap(HazardsProcess(["--support"]).output.split(separator: "\n").last)
            return try XCTUnwrap(Double(line.split(separator: " ")[1]))
        }
        // No figure, which is printed, but what would be wrong on any machine: 3 to 5 on a shared one, of which most is the walk over
        // Foundation's imports.
        XCTAssertLessThan(try XCTUnwrap(times.min()), 10)
        print("checks at start, with Foundation: \(times.min() ?? 0) to \(times.max() ?? 0) ms")
    }

    /// Every row, hammered and idle: nothing hangs, nothing crashes, what must not be refused is not, and every hammer was inside. (`Scripts/nightly` forks more often.)
    func testNothingHangsWhereForkGuardGuards() throws {
        let forks = 30
        for load in ["hammered", "idle"] {
            let hazards = try HazardsProcess(["--json", "--load", load, "--only", "guarded", "--forks", "\(forks)"])
            let lines = try lines(hazards)
            XCTAssertGreaterThan(lines.count, 80)
            for line in lines {
                let counts = line.guarded
                XCTAssertEqual([counts.forks, counts.hung, counts.crashed], [forks, 0, 0], "\(line.row), \(load): \(hazards.errors)")
                if load == "hammered" { XCTAssertGreaterThan(counts.inside, 0, "\(line.row): the hammer was never inside") }
            }
            XCTAssertEqual(hazards.status, 0, hazards.errors)
            print(load, lines.map { "\($0.row) \($0.guarded.ok)/\($0.guarded.refused)" }.joined(separator: ", "))
        }
    }

    private func lines(_ hazards: HazardsProcess) throws -> [HazardsLine] {
        try JSONDecoder().decode([HazardsLine].self, from: Data(hazards.output.utf8))
    }
}
