import ForkGuard
import ForkGuardTesting
import Glibc
import XCTest

/// The ways in which a child lets go of a connection that it inherited.
enum LettingGo: String, CaseIterable {
    case byDeinitialiser = "its deinitialiser"
    case byExitHandler = "an exit handler"

    /// Makes children that do it.
    ///
    /// - Parameters:
    ///   - owned: has the only reference.
    ///   - close: what the program's exit handler does.
    func inChildren<Client: AnyObject & Sendable>(
        _ count: Int, _ method: ForkMethod, _ owned: Owned<Client>, close: @escaping @Sendable (Client) -> Void
    ) throws {
        for _ in 0..<count {
            switch self {
            case .byDeinitialiser:
                let outcome = try ForkTesting.run(method) { _ in owned.client.withLock { $0 = nil } }
                XCTAssert(outcome.succeeded, "\(outcome)")
            case .byExitHandler:
                exitHandler.withLock { $0 = { owned.client.withLock { $0.map(close) } } }
                defer { exitHandler.withLock { $0 = nil } }
                let outcome = try ForkTesting.run(method) { context -> Bool in
                    context.note("exits")
                    exit(0)
                }
                guard case .exited(0) = outcome.ending, outcome.notes == ["exits"] else { return XCTFail("\(outcome)") }
            }
        }
    }
}

/// The one reference to a client.
final class Owned<Client: AnyObject & Sendable>: Sendable {
    let client: ForkMutex<Client?>

    init(_ client: Client) { self.client = ForkMutex(client, name: "owned client") }

    func get() throws -> Client { try XCTUnwrap(client.withLock { $0 }) }
}

/// What the exit handler does, in whichever process ends.
private let exitHandler: ForkMutex<(@Sendable () -> Void)?> = {
    atexit { exitHandler.withLock { $0 }?() }
    return ForkMutex(nil, name: "exit handler")
}()
