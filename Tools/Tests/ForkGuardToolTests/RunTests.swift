internal import Foundation
internal import XCTest

final class RunTests: XCTestCase {
    override func setUpWithError() throws { try Fixtures.needLibraries() }

    func testCommandTakesThePlaceOfTheTool() throws {
        let tool = try ToolProcess(["run", "--", "sh", "-c", "echo $$; exit 7"])
        XCTAssertEqual(tool.output, "\(tool.pid)\n")
        XCTAssertEqual(tool.status, 7)
        XCTAssertEqual(tool.errors, "")
        XCTAssertEqual(try ToolProcess(["run", "--", "sh", "-c", "kill -TERM $$"]).status, 128 + SIGTERM)
    }

    func testLibraryIsLoadedAndOptionsReachIt() throws {
        let tool = try ToolProcess([
            "run", "--deadline", "250", "--exclude", "x,y", "--torn", "wait", "--", "sh", "-c",
            "echo $FORKGUARD_DEADLINE_MS $FORKGUARD_PRELOAD_EXCLUDE $FORKGUARD_TORN; grep -c 'r-xp.*libforkguard-preload' /proc/$$/maps",
        ])
        XCTAssertEqual(tool.output, "250 x,y wait\n1\n")
    }

    /// What the library makes of the option, not only what reaches it.
    func testAChildThatLocksWhatVanishedIsRefusedOrWaits() throws {
        let program = try Fixtures.program("locks-what-vanished", Fixtures.directory(self))
        let refused = try ToolProcess(["run", "--deadline", "200", "--torn", "refuse", "--", program])
        #if arch(x86_64)
            XCTAssertEqual(refused.output, "signal \(SIGILL)\n")
        #else
            XCTAssertEqual(refused.output, "signal \(SIGTRAP)\n")
        #endif
        XCTAssertFalse(refused.errors.contains("ignored"), refused.errors)
        let waited = try ToolProcess(["run", "--deadline", "200", "--torn", "wait", "--", program])
        XCTAssertEqual(waited.output, "signal \(SIGALRM)\n")
        XCTAssertFalse(waited.errors.contains("ignored"), waited.errors)
    }

    func testLibraryIsPreloadedOnceBesideOthers() throws {
        let script = "echo $LD_PRELOAD"
        let once = try ToolProcess(["run", "--", "sh", "-c", script])
        let library = once.output.trimmingCharacters(in: .newlines)
        XCTAssert(library.hasPrefix("/") && library.hasSuffix("/libforkguard-preload.so"), library)
        let executable = try ToolProcess.executable().path
        XCTAssertEqual(try ToolProcess(["run", "--", executable, "run", "--", "sh", "-c", script]).output, once.output)
        let beside = try ToolProcess(["run", "--", "sh", "-c", script], ["LD_PRELOAD": "libdl.so.2 \(library)"])
        XCTAssertEqual(beside.output, "libdl.so.2 \(library)\n")
        XCTAssertEqual(try ToolProcess(["run", "--", "sh", "-c", script], ["LD_PRELOAD": "libdl.so.2"]).output, "\(library):libdl.so.2\n")
    }

    func testScriptsAreRun() throws {
        let directory = try Fixtures.directory(self)
        let script = try Fixtures.file("script", "#!/bin/sh\necho $1\n", mode: 0o755, directory)
        XCTAssertEqual(try ToolProcess(["run", "--", script, "one"]).output, "one\n")
        // Without a first line for the kernel: the shell's, as for execvp.
        let bare = try Fixtures.file("bare", "echo $1\n", mode: 0o755, directory)
        XCTAssertEqual(try ToolProcess(["run", "--", bare, "two"]).output, "two\n")
        XCTAssertEqual(try ToolProcess(["run", "--", "bare", "--json"], ["PATH": "\(directory.path):/bin"]).output, "--json\n")
    }
}
