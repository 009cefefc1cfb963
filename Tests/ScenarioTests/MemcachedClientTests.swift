import ForkGuard
import MemcachedClient
import Wire
import XCTest

/// The commands, against a real memcached, with either way of sharing connections.
final class MemcachedClientTests: XCTestCase {
    func test_commands() throws {
        let address = try Servers.memcached()
        let server = try ServerAddress(host: address.host, port: address.port)
        for sharing in [MemcachedClient.Sharing.pool(maximum: 4), .locked] {
            let client = try MemcachedClient(to: server, sharing)
            for key in ["client:a", "client:b", "client:n"] { _ = try client.delete(key) }

            XCTAssertNil(try client.get("client:a"))
            XCTAssertTrue(try client.add("client:a", Array("1".utf8)))
            XCTAssertFalse(try client.add("client:a", Array("2".utf8)))
            XCTAssertEqual(try client.get("client:a"), Array("1".utf8))
            XCTAssertTrue(try client.delete("client:a"))
            XCTAssertFalse(try client.delete("client:a"))

            // What looks like the protocol is a value like any other.
            let odd = Array("END\r\nVALUE x 0 0\r\n\0\u{301}".utf8)
            try client.set("client:a", to: odd)
            try client.set("client:b", to: [])
            XCTAssertEqual(try client.get(["client:a", "client:b", "client:a", "client:n"]), ["client:a": odd, "client:b": []])
            XCTAssertEqual(try client.get([]), [:])

            let large = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            try client.set("client:large", to: large)
            XCTAssertEqual(try client.get("client:large"), large)

            XCTAssertNil(try client.increment("client:n"))
            try client.set("client:n", to: Array("18446744073709551614".utf8))
            XCTAssertEqual(try client.increment("client:n"), .max)
            XCTAssertEqual(try client.increment("client:n", by: 6), 5)

            let found = try XCTUnwrap(try client.gets("client:a"))
            XCTAssertEqual(found.value, odd)
            XCTAssertTrue(try client.replace("client:a", ofVersion: found.version, with: [1]))
            XCTAssertFalse(try client.replace("client:a", ofVersion: found.version, with: [2]))
            XCTAssertEqual(try client.get("client:a"), [1])
            XCTAssertNil(try client.gets("client:none"))

            // More than thirty days from now, not a day of 1970.
            try client.set("client:a", to: [3], seconds: 100 * 86400)
            XCTAssertEqual(try client.get("client:a"), [3])
            try client.set("client:a", to: [3], seconds: -1)
            XCTAssertNil(try client.get("client:a"))
            XCTAssertEqual(client.connectionsMade, 1)
        }
    }

    /// A line of many keys, and values that come in many pieces.
    func test_manyKeys() throws {
        let address = try Servers.memcached()
        let client = try MemcachedClient(to: try ServerAddress(host: address.host, port: address.port))
        let keys = (0..<500).map { "client:many:\($0)" }
        for (number, key) in keys.enumerated() { try client.set(key, to: Array(repeating: UInt8(number % 256), count: number * 20)) }
        let found = try client.get(keys)
        XCTAssertEqual(found.count, 500)
        for (number, key) in keys.enumerated() { XCTAssertEqual(found[key], Array(repeating: UInt8(number % 256), count: number * 20)) }
    }
}
