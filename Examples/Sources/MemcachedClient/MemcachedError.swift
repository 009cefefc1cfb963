/// What memcached refused, or is not asked at all. The connection is whole after each of these; what happens to it comes as a `WireError`,
/// what ForkGuard refuses as a `ForkError`.
public enum MemcachedError: Error, Equatable {
    /// The server could not do it (`SERVER_ERROR`): out of memory, a value that is too large for it.
    case server(String)
    /// The server found the request wrong (`CLIENT_ERROR`, `ERROR`): an increment of what is not a number.
    case request(String)
    /// Not sent: a key has 1 to 250 ASCII characters, none of them a space or a control character.
    case key(String)
}
