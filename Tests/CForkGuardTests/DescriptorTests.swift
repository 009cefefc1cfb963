import XCTest

/// The descriptor room, in C, and what the kernel refuses it.
final class DescriptorTests: XCTestCase {
    func test_behaviour32_tokensAmongThreadsThatReuseNumbers() throws {
        let probe = try Probe.run("descriptors")
        probe.expectSuccess(printing: "0 strangers")
        print(probe.output, terminator: "")
    }

    func test_askingMakesNoSystemCall() throws {
        try Probe.run("descriptors-quiet").expectSuccess(printing: "no system call")
    }

    func test_nothingCanBeOpenedInTheChildsHandler() throws {
        let probe = try Probe.run("descriptors-denied")
        probe.expectSuccess(printing: "tombstoned 4, reopened 1, failed 0")
        probe.expectSuccess(printing: "tombstoned 0, reopened 0, failed 5")
    }

    func test_numbersUsedBesideTheirTokens() throws {
        try Probe.run("descriptors-odd").expectSuccess(printing: "each descriptor as it was told")
    }

    func test_whatTheKernelRefuses() throws {
        // Linux before 5.9 has no close_range(2).
        try Probe.run("descriptors-denied", denying: ["close_range=38"]).expectSuccess(printing: "tombstoned 4, reopened 1, failed 0")
        try Probe.run("descriptors-denied", denying: ["dup3=9"]).expectSuccess(printing: "tombstoned 0, reopened 0, failed 5")
    }
}
