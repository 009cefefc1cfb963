internal import Glibc

/// What each thread was told last.
enum LastMessage {
    private static let key = {
        var key = pthread_key_t()
        guard pthread_key_create(&key, { free($0) }) == 0 else { fatalError("no room for a message per thread") }
        return key
    }()

    private static let none = StaticString("")

    static func set(_ text: String) {
        let old = pthread_getspecific(key)
        if pthread_setspecific(key, strdup(text)) == 0 { free(old) }
    }

    static var ofThisThread: UnsafePointer<CChar> {
        if let text = pthread_getspecific(key) { return UnsafePointer(text.assumingMemoryBound(to: CChar.self)) }
        return UnsafeRawPointer(none.utf8Start).assumingMemoryBound(to: CChar.self)
    }
}
