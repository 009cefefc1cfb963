internal import Foundation
internal import XCTest

final class BadInputTests: XCTestCase {
    func testHelpOfEach() throws {
        let expected = [
            []: ["run", "audit", "doctor"],
            ["run"]: ["--deadline", "--exclude", "--torn", "-- CMD ARGS", "127", "126", "125"],
            ["audit"]: ["--json", "--output", "--timeout", "--fail-on-findings", "-- CMD ARGS", "124", "127", "126", "125"],
            ["doctor"]: ["--json"],
        ]
        for (command, words) in expected {
            let tool = try ToolProcess(command + ["--help"])
            XCTAssertEqual(tool.status, 0)
            XCTAssertEqual(tool.errors, "")
            for word in words { XCTAssert(tool.output.contains(word), "\(command) does not tell of \(word)") }
        }
    }

    func testBadOptionsAreNamed() throws {
        try assertFailure(["run"], 125, "CMD is missing")
        try assertFailure(["audit"], 125, "CMD is missing")
        try assertFailure(["run", "--"], 125, "CMD is missing")
        try assertFailure(["run", "--deadline", "0", "--", "true"], 125, "--deadline: 0 is not within 1 and 3600000")
        try assertFailure(["run", "--deadline", "3600001", "--", "true"], 125, "--deadline: 3600001")
        try assertFailure(["run", "--deadline", "soon", "--", "true"], 125, "'soon' is invalid for '--deadline")
        try assertFailure(["run", "--torn", "mend", "--", "true"], 125, "'mend' is invalid for '--torn")
        try assertFailure(["run", "--exclude", "a,,b", "--", "true"], 125, "--exclude: 'a,,b' has an empty name in it")
        try assertFailure(["run", "--exclude", "", "--", "true"], 125, "--exclude: '' has an empty name in it")
        try assertFailure(["audit", "--timeout", "0", "--", "true"], 125, "--timeout: 0.0 is not a number of seconds above 0")
        try assertFailure(["audit", "--timeout", "nan", "--", "true"], 125, "--timeout: nan")
        try assertFailure(["audit", "--bogus", "--", "true"], 125, "Unknown option '--bogus'")
        try assertFailure(["doctor", "extra"], 125, "Unexpected argument 'extra'")
        try assertFailure(["watch"], 125, "Unexpected argument 'watch'")
    }

    func testCommandsThatCannotBeRunAreNamed() throws {
        try Fixtures.needLibraries()
        let directory = try Fixtures.directory(self)
        let plain = try Fixtures.file("plain", "#!/bin/sh\n", mode: 0o644, directory)
        let orphan = try Fixtures.file("orphan", "#!/nowhere/interpreter\n", mode: 0o755, directory)
        for command in ["run", "audit"] {
            try assertFailure([command, "--", "forkguard-no-such-command"], 127, "forkguard-no-such-command: no such command in PATH")
            try assertFailure([command, "--", "/nowhere/x"], 127, "/nowhere/x: No such file or directory")
            try assertFailure([command, "--", ""], 127, "CMD is empty")
            try assertFailure([command, "--", plain], 126, "\(plain): not executable: Permission denied")
            try assertFailure([command, "--", directory.path], 126, "\(directory.path): is a directory")
            try assertFailure([command, "--", "/dev/null"], 126, "/dev/null: is not a regular file")
            try assertFailure([command, "--", "\(plain)/x"], 127, "\(plain)/x: Not a directory")
            try assertFailure([command, "--", orphan], 126, "\(orphan): its interpreter /nowhere/interpreter: No such file or directory")
            // In PATH, what is found and must not be executed counts when there is nothing else, as for execvp.
            try assertFailure([command, "--", "plain"], 126, "plain: not executable", ["PATH": directory.path])
        }
    }

    func testStaticProgramsRunUnguardedAndAreNotAudited() throws {
        try Fixtures.needLibraries()
        let directory = try Fixtures.directory(self)
        let program = try Fixtures.program("nothing", directory, ["-static"])
        let run = try ToolProcess(["run", "--", program])
        XCTAssertEqual(run.status, 0)
        XCTAssertEqual(run.errors, "forkguard: \(program): it is linked statically: it runs, and is not guarded\n")
        try assertFailure(["audit", "--", program], 125, "\(program): it is linked statically, so it cannot be audited")
        // A script is what its interpreter is.
        let script = try Fixtures.file("script", "#!\(program) -x\n", mode: 0o755, directory)
        try assertFailure(["audit", "--", script], 125, "\(script): it is linked statically, so it cannot be audited")
    }

    func testSetuidProgramsRunUnguardedAndAreNotAudited() throws {
        try Fixtures.needLibraries()
        guard getuid() == 0 else { throw XCTSkip("only root can make a file another user's") }
        let directory = try Fixtures.directory(self)
        let program = try Fixtures.program("nothing", directory)
        XCTAssertEqual(chown(program, 65534, 65534), 0)
        XCTAssertEqual(chmod(program, 0o4755), 0)
        let run = try ToolProcess(["run", "--", program])
        XCTAssertEqual(run.status, 0)
        XCTAssert(run.errors.contains("forkguard: \(program): it is setuid: it runs, and is not guarded\n"), run.errors)
        try assertFailure(["audit", "--", program], 125, "\(program): it is setuid, so it cannot be audited")
        // The control: to a user's own programs the bit means nothing.
        XCTAssertEqual(chown(program, 0, 0), 0)
        XCTAssertEqual(chmod(program, 0o4755), 0)
        XCTAssertEqual(try ToolProcess(["run", "--", program]).errors, "")
    }

    func testBrokenExecutableIsNamed() throws {
        try Fixtures.needLibraries()
        let directory = try Fixtures.directory(self)
        let broken = try Fixtures.file("broken", "\u{7f}ELF", mode: 0o755, directory)
        try assertFailure(["audit", "--", broken], 125, "\(broken): its ELF header is broken")
        let run = try ToolProcess(["run", "--", broken])
        XCTAssertEqual(run.status, 126)
        XCTAssert(run.errors.hasSuffix("forkguard: \(broken): Exec format error\n"), run.errors)
    }

    func testMissingLibrariesAreNamedWithWhatBuildsThem() throws {
        let nowhere = ["FORKGUARD_LIBRARY_PATH": "/nowhere"]
        try assertFailure(["run", "--", "true"], 125, "there is no libforkguard-preload.so in /nowhere", nowhere)
        try assertFailure(["audit", "--", "true"], 125, "there is no libforkguard-audit.so in /nowhere", nowhere)
        try assertFailure(["audit", "--", "true"], 125, "cmake -B build && cmake --build build", nowhere)
    }

    func testPathThatLDPreloadCannotNameIsRefused() throws {
        try Fixtures.needLibraries()
        let directory = try Fixtures.directory(self).appendingPathComponent("with space")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        _ = try Fixtures.file("libforkguard-preload.so", "", mode: 0o755, directory)
        try assertFailure(
            ["run", "--", "true"], 125, "LD_PRELOAD cannot name a path with a space", ["FORKGUARD_LIBRARY_PATH": directory.path])
    }

    func testReportThatCannotBeWrittenIsToldBeforeTheProgramRuns() throws {
        try Fixtures.needLibraries()
        let tool = try ToolProcess(["audit", "--output", "/nowhere/report", "--", "echo", "ran"])
        XCTAssertEqual(tool.status, 125)
        XCTAssertEqual(tool.output, "")
        XCTAssertEqual(tool.errors, "forkguard: --output: /nowhere/report: No such file or directory\n")
    }

    private func assertFailure(
        _ arguments: [String], _ status: Int32, _ message: String, _ environment: [String: String] = [:], line: UInt = #line
    ) throws {
        let tool = try ToolProcess(arguments, environment)
        XCTAssertEqual(tool.status, status, "\(arguments): \(tool.errors)", line: line)
        XCTAssert(tool.errors.contains(message), "\(arguments): \(tool.errors)", line: line)
        XCTAssertEqual(tool.output, "", line: line)
    }
}
