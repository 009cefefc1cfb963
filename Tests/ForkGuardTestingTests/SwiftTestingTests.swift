import ForkGuardTesting
import Testing

/// The same product from Swift Testing, as a suite of a user's own would use it.
@Suite struct FromSwiftTesting {
    @Test(arguments: ForkMethod.available) func carriesAValueBack(_ method: ForkMethod) throws {
        let outcome = try ForkTesting.run(method) { _ in ["a": [1, 2, 3]] }
        #expect(outcome.value == ["a": [1, 2, 3]], "\(outcome)")
    }

    @Test func catchesAHang() throws {
        let mutex = PlainMutex()
        mutex.lock()
        let outcome = try ForkTesting.run(.rawFork, deadline: .milliseconds(300)) { _ in waitForTheLockThatSomebodyHeld(mutex) }
        #expect(!outcome.succeeded)
        #expect("\(outcome)".contains("waitForTheLockThatSomebodyHeld"), "\(outcome)")
    }

    @Test func throwsWhatWentWrong() {
        let error = #expect(throws: ForkTestingError.self) {
            try ForkTesting.run(.rawFork) { context -> Int in
                context.fail("it is Monday")
                return 1
            }.get()
        }
        #expect("\(error.map { "\($0)" } ?? "")".contains("SwiftTestingTests.swift"))
    }

    @Test func countsInAnAsynchronousTest() async throws {
        let counts = try ForkTesting.repeated(20, expecting: 3, while: [{ sleepMilliseconds(1) }]) { _ in 3 }
        #expect(counts.succeeded, "\(counts)")
    }
}
