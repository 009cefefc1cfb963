import XCTest

/// A test that leaves no thread and no descriptor behind.
class HTTPTestCase: XCTestCase {
    private var threads = 0
    private var descriptors = 0

    override func setUp() {
        threads = HTTPSupport.threads()
        descriptors = HTTPSupport.descriptors()
    }

    override func tearDown() {
        let isBack = HTTPSupport.wait(.seconds(10)) { HTTPSupport.threads() <= threads && HTTPSupport.descriptors() <= descriptors }
        let left = (threads: HTTPSupport.threads() - threads, descriptors: HTTPSupport.descriptors() - descriptors)
        XCTAssert(isBack, "\(left.threads) threads and \(left.descriptors) descriptors are left")
    }
}
