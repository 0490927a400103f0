//! Phrases: what people at the practice provider write to each other, in four languages.
//!
//! # Invariants
//!
//! * No NUL and no bare CR: what is damaged in the lab is damaged by the storm alone.
//! * Italian and German stay within ISO-8859-1.

/// The words of one language.
pub(crate) struct Phrases {
    /// Subjects, to be numbered.
    pub(crate) subjects: &'static [&'static str],
    /// Display names of correspondents.
    pub(crate) senders: &'static [(&'static str, &'static str)],
    /// Paragraphs of a few hundred bytes.
    pub(crate) paragraphs: &'static [&'static str],
    /// Whether ISO-8859-1 can carry them.
    pub(crate) latin: bool,
}

/// The words of `language`; English for any other.
pub(crate) fn phrases(language: &str) -> &'static Phrases {
    match language {
        "it" => &ITALIAN,
        "de" => &GERMAN,
        "ja" => &JAPANESE,
        _ => &ENGLISH,
    }
}

const ITALIAN: Phrases = Phrases {
    subjects: &[
        "Riunione di lunedì",
        "La perizia è pronta",
        "Foto della gita",
        "Fattura",
        "Ricevuta di pagamento",
        "Perché non ci sentiamo più?",
    ],
    senders: &[
        ("Carla Monti", "carla@acquario.example"),
        ("Condominio Via Po", "avvisi@viapo.example"),
        ("Libreria Aurora", "ordini@aurora.example"),
    ],
    paragraphs: &[
        "Ciao,\nti scrivo perché la riunione di lunedì è stata spostata a giovedì alle \
         dieci. La sala è la stessa, al terzo piano; se arrivi in anticipo trovi già il \
         caffè. Portati le carte della settimana scorsa, così le firmiamo insieme.\n",
        "Abbiamo controllato le misure due volte: la parete nord è più corta di quattro \
         centimetri rispetto al progetto. Non è un dramma, però bisogna dirlo al geometra \
         prima che ordini le finestre. Può darsi che il preventivo cambi un poco.\n",
        "Gentile cliente, il suo ordine è partito questa mattina e arriverà entro tre \
         giorni lavorativi. Conservi questa ricevuta: servirà per la garanzia. Per \
         qualunque necessità il nostro ufficio risponde dalle nove alle diciotto.\n",
        "From qui si vede il lago, e la sera la luce è così chiara che nessuno vuole \
         rientrare. I bambini hanno già fatto amicizia con tutti. Ti mando le fotografie \
         appena torniamo in città; intanto un abbraccio a te e a papà.\n",
    ],
    latin: true,
};

const GERMAN: Phrases = Phrases {
    subjects: &[
        "Änderung am Dienstplan",
        "Rückfrage zur Rechnung",
        "Grüße von der Küste",
        "Protokoll der Sitzung",
        "Übergabe am Freitag",
        "Ihre Bestellung",
    ],
    senders: &[
        ("Jörg Müller", "joerg@werft.example"),
        ("Hausverwaltung Süd", "post@hvsued.example"),
        ("Bücherstube", "laden@buecherstube.example"),
    ],
    paragraphs: &[
        "Guten Tag,\nanbei erhalten Sie das Protokoll der gestrigen Sitzung. Bitte prüfen \
         Sie die Punkte drei und fünf besonders gründlich, dort haben wir die Zahlen aus \
         dem Vorjahr übernommen. Änderungswünsche nehme ich gern bis Freitag entgegen.\n",
        "die Heizung im zweiten Stock fällt seit gestern Abend immer wieder aus. Der \
         Techniker war schon hier und hat ein Ventil getauscht, das Geräusch ist aber \
         geblieben. Könnten Sie bitte einen weiteren Termin vereinbaren? Vormittags wäre \
         uns lieber.\n",
        "Für das Fest haben wir jetzt achtzig Zusagen, also müssen wir doch die größere \
         Halle nehmen. Die Bühne kommt an die Längsseite, das Essen nach draußen. Wenn \
         es regnet, stellen wir Zelte auf; die Feuerwehr leiht uns zwei.\n",
        "> Wir hatten vereinbart, die Unterlagen bis zum Monatsende zu schicken.\n>\n> \
         Leider fehlt noch die Unterschrift der zweiten Prüferin.\n\nSie ist jetzt da. Ich \
         schicke alles morgen früh los.\n",
    ],
    latin: true,
};

const JAPANESE: Phrases = Phrases {
    subjects: &[
        "会議の日程について",
        "お問い合わせの件",
        "写真をお送りします",
        "請求書のご案内",
        "来週の予定",
        "ご注文ありがとうございます",
    ],
    senders: &[
        ("田中 由紀", "yuki@minato.example"),
        ("みなと書店", "order@minatobooks.example"),
        ("総務課", "soumu@kaisha.example"),
    ],
    paragraphs: &[
        "お世話になっております。来週の会議は木曜日の午前十時に変更となりました。場所は\
         いつもの三階会議室です。資料は前日までに共有いたしますので、ご確認のほどよろしく\
         お願いいたします。\n",
        "先日は遠いところをお越しいただき、ありがとうございました。お預かりした書類はすべて\
         確認し、不足は見つかりませんでした。原本は来月初めに書留でお返しいたします。\n",
        "ご注文の商品は本日発送いたしました。到着まで二、三日かかる見込みです。届きましたら\
         中身をお確かめのうえ、問題がございましたらこのメールにご返信ください。\n",
        "海辺の町はもう秋の風です。朝の散歩で見つけた貝殻を子どもたちが並べています。写真を\
         何枚か添付しました。大きいので、ゆっくりご覧ください。\n",
    ],
    latin: false,
};

const ENGLISH: Phrases = Phrases {
    subjects: &[
        "Minutes of the harbour meeting",
        "Invoice",
        "Photos from the regatta",
        "Re: the roof",
        "Delivery on Tuesday",
        "Timetable for spring",
    ],
    senders: &[
        ("Maud Ellery", "maud@pilots.example"),
        ("Harbour Office", "office@harbourmaster.example"),
        ("The Chart Shop", "orders@chartshop.example"),
    ],
    paragraphs: &[
        "Dear all,\nthe minutes of Monday's meeting are below. Two points are still open: \
         who pays for the new mooring lines, and whether the east gate stays shut at low \
         water. Please answer by Thursday so that the order can go out before the holiday.\n",
        "Thank you for your order. It left our warehouse this morning and should be with \
         you within three working days. Keep this message as your receipt; the number at \
         the top is all we need if anything turns out to be wrong.\n",
        "From what the surveyor says, the roof will last another winter if the two rows \
         above the gutter are replaced now. I have asked for a price. The scaffolding is \
         the dear part, so it would make sense to paint the windows in the same week.\n",
        "> Could you look at the spring timetable again?\n> The 7.40 cannot wait for the \
         ferry.\n\nYou are right. I have moved it to 7.52 and put the old time in brackets, \
         so that nobody misses it in the first week.\n",
    ],
    latin: true,
};
