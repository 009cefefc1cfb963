import Foundation
import XCTest

/// Where the real servers are that `Scripts/test` starts. A test whose server is not there is skipped.
enum Servers {
    typealias Address = (host: String, port: UInt16)

    static func redis() throws -> Address { try address("FORKGUARD_TEST_REDIS") }

    /// User and database are `forkguard`, without a password.
    static func postgres() throws -> Address { try address("FORKGUARD_TEST_POSTGRES") }

    /// Keeps idle connections for a minute; `/echo?id=X` answers X, `/connection` the numbers of the connection and of the request on it,
    /// `/large` 1 MiB; `/close` closes the connection.
    static func nginx() throws -> Address { try address("FORKGUARD_TEST_NGINX") }

    /// Closes connections that have been idle for a second.
    static func nginxClosing() throws -> Address { try address("FORKGUARD_TEST_NGINX_CLOSING") }

    static func memcached() throws -> Address { try address("FORKGUARD_TEST_MEMCACHED") }

    private static func address(_ variable: String) throws -> Address {
        guard let value = ProcessInfo.processInfo.environment[variable] else { throw XCTSkip("\(variable) is not set: run Scripts/test") }
        guard let colon = value.lastIndex(of: ":"), colon != value.startIndex,
            let port = UInt16(value[value.index(after: colon)...]), port != 0
        else { throw Malformed(description: "\(variable): '\(value)' is not HOST:PORT with a port from 1 to 65535") }
        return (String(value[..<colon]), port)
    }

    private struct Malformed: Error, CustomStringConvertible {
        let description: String
    }
}
