//! Kind: how a mailbox is stored, as far as damage to it goes.
//!
//! # Invariants
//!
//! * Every kind lives the same life, so that it shows the same folders, UIDs, flags and bytes.

/// How a mailbox is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Maildir,
    /// Saved by Dovecot's zlib plugin.
    MaildirGzip,
    MaildirZstd,
    /// Old mail was compressed in place after the snapshot.
    MaildirSqueezed,
    Sdbox,
    SdboxGzip,
    Mdbox,
    /// What nobody refers to any more was purged after the snapshot, so that files are others.
    MdboxPurged,
    MdboxZstd,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Maildir,
        Self::MaildirGzip,
        Self::MaildirZstd,
        Self::MaildirSqueezed,
        Self::Sdbox,
        Self::SdboxGzip,
        Self::Mdbox,
        Self::MdboxPurged,
        Self::MdboxZstd,
    ];

    /// As it stands in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Maildir => "maildir",
            Self::MaildirGzip => "maildir-gzip",
            Self::MaildirZstd => "maildir-zstd",
            Self::MaildirSqueezed => "maildir-squeezed",
            Self::Sdbox => "sdbox",
            Self::SdboxGzip => "sdbox-gzip",
            Self::Mdbox => "mdbox",
            Self::MdboxPurged => "mdbox-purged",
            Self::MdboxZstd => "mdbox-zstd",
        }
    }

    /// The directory of a mailbox, in its owner's home.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Maildir
            | Self::MaildirGzip
            | Self::MaildirZstd
            | Self::MaildirSqueezed => "Maildir",
            Self::Sdbox | Self::SdboxGzip => "sdbox",
            Self::Mdbox | Self::MdboxPurged | Self::MdboxZstd => "mdbox",
        }
    }

    /// The owner whose letters fill a mailbox of this kind.
    pub(crate) fn owner(self) -> String {
        format!("{}@example.org", self.name())
    }

    /// What the user database says to Dovecot.
    pub(crate) fn fields(self) -> String {
        let format = self.directory().to_lowercase();
        let saves = match self {
            Self::MaildirGzip | Self::SdboxGzip => " userdb_zlib_save=gz",
            Self::MaildirZstd | Self::MdboxZstd => " userdb_zlib_save=zstd",
            Self::Maildir
            | Self::MaildirSqueezed
            | Self::Sdbox
            | Self::Mdbox
            | Self::MdboxPurged => "",
        };
        format!("userdb_mail={format}:~/{}{saves}", self.directory())
    }
}
