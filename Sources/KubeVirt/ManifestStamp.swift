import Glibc

/// What changes whenever a manifest's content does, but for two changes within one tick of the kernel's clock.
///
/// Here, because `stat` has its members from whichever C module came first, and in a target that imports NIO that may be
/// one of NIO's.
package struct ManifestStamp: Equatable, Sendable {
    private var inode: UInt
    private var size: Int
    package var changedAt: Int
    private var changedAtNanoseconds: Int

    /// Nil where there is no such file.
    package init?(path: String) {
        var info = stat()
        guard unsafe stat(path, &info) == 0 else { return nil }
        inode = UInt(info.st_ino)
        size = Int(info.st_size)
        changedAt = info.st_ctim.tv_sec
        changedAtNanoseconds = info.st_ctim.tv_nsec
    }
}
