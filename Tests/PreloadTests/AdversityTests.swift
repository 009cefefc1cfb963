import Foundation
import XCTest

/// What programs, their users and other preloaded libraries do.
final class PreloadAdversityTests: XCTestCase {
    private let allocators = ["libjemalloc.so.2", "libtcmalloc_minimal.so.4"]

    func test_childrenThatShareTheMemoryUntilTheyExecTakeNoGate() throws {
        for guarded in [true, false] {
            XCTAssertEqual(try PreloadRun.probe("spawns", guarded: guarded).output, "spawns: 250 children, none waited for\n")
        }
    }

    func test_forksInSignalHandlersThatInterruptALockHolder() throws {
        for guarded in [true, false] {
            XCTAssertEqual(try PreloadRun.probe("signals", guarded: guarded).output, "signals: 500 forks in handlers\n")
        }
    }

    func test_childrenThatExecAtOnce() throws {
        let run = try PreloadRun.probe("execs")
        XCTAssertEqual(Array(run.counts.prefix(3)), [200, 0, 0], run.error)
    }

    func test_aProgramThatClosesAllDescriptorsFindsNothingOfOursInItsFiles() throws {
        let run = try PreloadRun.probe("closes")
        XCTAssert(run.output.hasPrefix("closes: 0 bytes of others' in the file\n"), run.output)
        XCTAssertEqual(Array(run.counts.prefix(3)), [3, 0, 0], run.output)
    }

    func test_allocatorsThatArePreloadedTooInBothOrders() throws {
        for name in allocators {
            guard let allocator = try library(name) else { throw XCTSkip("\(name) is not installed: run Scripts/test") }
            for preload in [[allocator, try PreloadRun.library()], [try PreloadRun.library(), allocator]] {
                for scenario in ["mutexes", "conditions", "handlers", "execs"] {
                    let run = try PreloadRun.probe(scenario, preload: preload)
                    XCTAssertEqual(Array(run.counts.dropFirst().prefix(2)), [0, 0], "\(preload): \(run.output)\(run.error)")
                    XCTAssertGreaterThanOrEqual(run.counts.first ?? 0, 200, "\(preload): \(run.output)\(run.error)")
                }
            }
        }
    }

    func test_preloadedTwiceAndUnderAnotherPath() throws {
        let library = try PreloadRun.library()
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("forkguard-preload-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let copy = folder.appendingPathComponent(library.lastPathComponent)
        try FileManager.default.copyItem(at: library, to: copy)
        for preload in [[library, library], [library, copy]] {
            for scenario in ["mutexes", "conditions", "rwlocks"] {
                let run = try PreloadRun.probe(scenario, preload: preload)
                XCTAssertEqual(run.status, 0, run.output + run.error)
            }
            // One gate, one deadline, one message for each lock.
            let kept = try PreloadRun.probe("kept", preload: preload)
            XCTAssertEqual(kept.error.components(separatedBy: "was still held").count - 1, 3, kept.error)
        }
    }

    /// The dynamic linker leaves libraries with a slash in their name out of programs that run with others' rights.
    func test_aSetuidProgramIsLeftAlone() throws {
        let library = try PreloadRun.library()
        let su = ["/usr/bin/su", "/bin/su"].first { FileManager.default.isExecutableFile(atPath: $0) }
        let program = try XCTUnwrap(su, "no su")
        let nobody = getuid() == 0 ? ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : ["/usr/bin/env"]
        // A bad value that is complained about says that the library is there.
        let wrong = ["FORKGUARD_PRELOAD": "maybe"]
        let run = try PreloadRun.run(
            URL(fileURLWithPath: nobody[0]), Array(nobody.dropFirst()) + ["env", "LD_PRELOAD=\(library.path)", program, "--version"],
            preload: [],
            environment: wrong)
        XCTAssertEqual(run.status, 0, run.error)
        let complaints = run.error.components(separatedBy: "FORKGUARD_PRELOAD is 'maybe'").count - 1
        XCTAssertEqual(complaints, 0, run.error)
        let control = try PreloadRun.run(URL(fileURLWithPath: "/bin/true"), [], preload: [library], environment: wrong)
        XCTAssertEqual(control.error, "ForkGuard: FORKGUARD_PRELOAD is 'maybe', which is neither 'on' nor 'off'; it is ignored\n")
    }

    func test_aStaticProgramRunsAsWithoutIt() throws {
        let run = try PreloadRun.probe("mutexes", form: "static", environment: ["FORKGUARD_PRELOAD": "maybe"])
        XCTAssertEqual(run.counts.dropFirst().first, 3, run.output)
        XCTAssertEqual(run.error, "")
    }

    /// Two gates in one process: nothing hangs.
    func test_aProgramThatIsLinkedWithForkGuardItself() throws {
        let probe = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
            .appendingPathComponent("forkguard-runtime-probe")
        for scenario in ["mutexes", "conditions", "rwlocks", "survivor", "chains", "hooks", "semantics"] {
            let run = try PreloadRun.run(probe, [scenario], preload: [try PreloadRun.library()])
            XCTAssertEqual(run.status, 0, "\(scenario): \(run.output)\(run.error)")
        }
    }

    // ---- the environment ----

    func test_switchedOff() throws {
        for environment in [["FORKGUARD_PRELOAD": "off"], ["FORKGUARD_PRELOAD_EXCLUDE": "other,forkguard-preload-probe-dynamic"]] {
            let run = try PreloadRun.probe("mutexes", environment: environment)
            XCTAssertEqual(run.counts.dropFirst().first, 3, "\(environment): \(run.output)")
            XCTAssertEqual(run.error, "")
        }
        XCTAssertEqual(try PreloadRun.probe("mutexes", environment: ["FORKGUARD_PRELOAD_EXCLUDE": "other"]).status, 0)
    }

    func test_anObjectIsExcluded() throws {
        let object = ["FORKGUARD_TEST_OBJECT": try PreloadRun.built("libholder.so").path]
        let run = try PreloadRun.probe("object", environment: object.merging(["FORKGUARD_PRELOAD_EXCLUDE": "libholder.so"]) { $1 })
        XCTAssertEqual(run.counts.dropFirst().first, 3, run.output)
        XCTAssertEqual(
            run.error,
            "ForkGuard: FORKGUARD_PRELOAD_EXCLUDE names 'libholder.so', which is not loaded when this program starts; "
                + "its calls are left alone if it is loaded later\n")
        // Others of the same process are not.
        XCTAssertEqual(try PreloadRun.probe("mutexes", environment: ["FORKGUARD_PRELOAD_EXCLUDE": "libholder.so"]).status, 0)
    }

    func test_namesThatAreNobodys() throws {
        for (names, message) in [
            ("/usr/bin/true", "names '/usr/bin/true': give the program's name without its directory; it is ignored"),
            ("lib/libz.so.1", "names 'lib/libz.so.1': give the object's name without its directory; it is ignored"),
            ("a,,b", "is 'a,,b', in which a name is missing"),
        ] {
            let run = try PreloadRun.run(
                URL(fileURLWithPath: "/bin/true"), [], preload: [PreloadRun.library()], environment: ["FORKGUARD_PRELOAD_EXCLUDE": names])
            XCTAssertEqual(run.error, "ForkGuard: FORKGUARD_PRELOAD_EXCLUDE \(message)\n")
        }
    }

    /// It defines the C library's names, and no other; it needs nothing but the C library.
    func test_whatItExportsAndNeeds() throws {
        let library = try PreloadRun.library()
        XCTAssertEqual(try PreloadRun.probe("who").output, "who: libforkguard-preload.so, libforkguard-preload.so\n")
        let symbols = try PreloadRun.run(URL(fileURLWithPath: "/usr/bin/nm"), ["-D", "--defined-only", library.path], preload: []).output
        let names = symbols.split(separator: "\n").compactMap { $0.split(separator: " ").last }.map { $0.split(separator: "@")[0] }
        let others = names.filter { name in
            let plain = name.drop { $0 == "_" }
            return !plain.hasPrefix("pthread_mutex_") && !plain.hasPrefix("pthread_cond_") && !plain.hasPrefix("pthread_rwlock_")
                && !["fork", "forkpty", "daemon", "GLIBC_2.3.2"].contains(plain)
        }
        XCTAssertEqual(others, [], "exported")
        XCTAssertGreaterThan(names.count, 20)
        let needs = try PreloadRun.run(URL(fileURLWithPath: "/usr/bin/readelf"), ["-d", library.path], preload: []).output
        XCTAssertEqual(needs.components(separatedBy: "(NEEDED)").count - 1, 1, needs)
    }

    private func library(_ name: String) throws -> URL? {
        let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
        return folders.map { URL(fileURLWithPath: $0).appendingPathComponent(name) }.first {
            FileManager.default.fileExists(atPath: $0.path)
        }
    }
}
