import Foundation
import XCTest

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The demo's own server, as a client sees it.
final class EmbeddedRedisTests: XCTestCase {
    func testAnswersAsRedisDoes() throws {
        try withServer { connection in
            for (command, answer) in [
                ("PING\r\n", "+PONG\r\n"),
                ("*1\r\n$4\r\nPING\r\n", "+PONG\r\n"),
                ("*2\r\n$4\r\necho\r\n$5\r\na\r\nb \r\n", "$5\r\na\r\nb \r\n"),
                ("GET k\r\n", "$-1\r\n"),
                ("SET k 41 EX 60\r\n", "+OK\r\n"),
                ("INCR k\r\n", ":42\r\n"),
                ("GET k\r\n", "$2\r\n42\r\n"),
                ("SET k word\r\nINCR k\r\n", "+OK\r\n-ERR value is not an integer or out of range\r\n"),
                ("DEL k k\r\n", ":1\r\n"),
                ("SET k v EX 0\r\n", "-ERR value is not an integer or out of range\r\n"),
                ("SET k v XX 1\r\n", "-ERR syntax error\r\n"),
                ("GET\r\n", "-ERR wrong number of arguments for 'get' command\r\n"),
                ("CLIENT SETNAME x\r\n", "+OK\r\n"),
                ("NONSENSE\r\n", "-ERR unknown command 'NONSENSE'\r\n"),
                ("*1\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
            ] {
                // A byte at a time: a command may come in any pieces.
                for byte in command.utf8 { connection.send([byte]) }
                XCTAssertEqual(connection.receive(answer.utf8.count), answer, command)
            }
            XCTAssertEqual(connection.receive(1), "", "a protocol error ends the connection")
        }
    }

    func testQuitEndsTheConnection() throws {
        try withServer { connection in
            connection.send(Array("QUIT\r\nPING\r\n".utf8))
            XCTAssertEqual(connection.receive(100), "+OK\r\n")
        }
    }

    /// Starts a server, connects, and checks that it ends when whoever started it has.
    private func withServer(_ body: (LoopbackConnection) throws -> Void) throws {
        let process = try DemoProcess.make(["--internal-server"])
        let lifeline = Pipe()
        let output = Pipe()
        process.standardInput = lifeline
        process.standardOutput = output
        try process.run()
        let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        if let port = UInt16(line.dropLast()) {
            let connection = try LoopbackConnection(port: port)
            defer { connection.end() }
            try body(connection)
        } else {
            XCTFail("the server did not say its port, but '\(line)'")
        }
        try lifeline.fileHandleForWriting.close()
        process.waitUntilExit()
        XCTAssertEqual(process.terminationStatus, 0)
    }
}
