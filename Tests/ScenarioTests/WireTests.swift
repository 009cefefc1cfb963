import ForkGuard
import ForkGuardTesting
import Glibc
import Wire
import XCTest

/// The connection under all clients: what goes wrong on a wire is a typed error.
final class WireTests: XCTestCase {
    func test_aServerThatIsGone() throws {
        let address = try ServerAddress(host: "127.0.0.1", port: try Loopback.unusedPort())
        XCTAssertThrowsError(try Connection(to: address, timeout: .seconds(5))) {
            XCTAssertEqual($0 as? WireError, .system("connect", errno: ECONNREFUSED))
        }
    }
}
