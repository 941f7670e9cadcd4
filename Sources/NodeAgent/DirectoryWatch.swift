import Glibc

/// Tells whether anything in a directory may have changed, by inotify(7): in one system call, where looking at every file
/// takes one each.
struct DirectoryWatch: ~Copyable {
    private static let events =
        UInt32(IN_CREATE | IN_DELETE | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO)
        | UInt32(IN_DELETE_SELF | IN_MOVE_SELF)

    private let path: String
    private let descriptor: CInt
    private var isWatching = false

    init(path: String) {
        self.path = path
        descriptor = inotify_init1(CInt(IN_NONBLOCK | IN_CLOEXEC))
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// False where nothing has changed since `begin`. True also where that cannot be told.
    mutating func mayHaveChanged() -> Bool { !isWatching || drain() }

    /// To be called before the directory is read: what changes from now on is noticed.
    mutating func begin() {
        // Again each time: another directory may have taken its place.
        isWatching = unsafe descriptor >= 0 && inotify_add_watch(descriptor, path, Self.events) >= 0
        _ = drain()
    }

    /// Whether there was an event.
    private func drain() -> Bool {
        var buffer = [UInt8](repeating: 0, count: 4096)
        var isAny = false
        while unsafe read(descriptor, &buffer, buffer.count) > 0 { isAny = true }
        return isAny
    }
}
