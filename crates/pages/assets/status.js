// The public status page: shows its own age, and works out when an address has its turn. It asks
// nobody anything, and may not: the page forbids every request.
"use strict";

(() => {
  const stale = document.getElementById("stale");
  const look = () => {
    const age = Date.now() - Date.parse(stale.dataset.generated);
    if (age > Number(stale.dataset.freshSeconds) * 1000) stale.hidden = false;
  };
  look();
  setInterval(look, 30_000);

  const slots = document.getElementById("slots");
  const address = document.getElementById("address");
  const answer = document.getElementById("answer");
  const answers = JSON.parse(slots.dataset.answers);
  const seed = BigInt("0x" + slots.dataset.seed);

  const tell = () => {
    answer.replaceChildren();
    const text = address.value.trim().toLowerCase();
    const line = document.createElement("p");
    answer.append(line);
    if (!/^[^\s@]+@[^\s@]+$/.test(text)) {
      line.textContent = slots.dataset.empty;
      return;
    }
    line.textContent = slots.dataset.says;
    const slot = Number(hash(new TextEncoder().encode(text), seed) >> 56n);
    const list = document.createElement("ul");
    for (const service of slots.querySelectorAll(".slots")) {
      const number = parseInt(service.dataset.at.slice(slot * 4, slot * 4 + 4), 16);
      const item = document.createElement("li");
      item.textContent = service.dataset.service + ": " + answers[number];
      list.append(item);
    }
    answer.append(list);
  };
  document.getElementById("work-out").addEventListener("click", tell);
  address.addEventListener("keydown", (event) => {
    if (event.key === "Enter") tell();
  });
  document.getElementById("ask").hidden = false;

  // XXH3 with 64 bits and a seed, of up to 240 bytes; of a longer text, of its beginning. No
  // address is that long.
  function hash(all, seed) {
    const input = all.subarray(0, 240);
    const length = input.length;
    const data = new DataView(input.buffer, input.byteOffset, length);
    const u32 = (at) => BigInt(data.getUint32(at, true));
    const u64 = (at) => data.getBigUint64(at, true);
    const s64 = (at) => SECRET.getBigUint64(at, true);
    const cut = (number) => BigInt.asUintN(64, number);
    const size = BigInt(length);
    const fold = (one, other) => {
      const product = one * other;
      return cut(product) ^ (product >> 64n);
    };
    const avalanche = (h) => {
      h = cut((h ^ (h >> 37n)) * MIX_1);
      return h ^ (h >> 32n);
    };
    const mix = (at, secret) =>
      fold(u64(at) ^ cut(s64(secret) + seed), u64(at + 8) ^ cut(s64(secret + 8) - seed));
    const rotate = (h, by) => cut(h << by) | (h >> (64n - by));
    const swap = (number, bytes) => {
      let swapped = 0n;
      for (let place = 0n; place < bytes; place += 1n) {
        swapped = (swapped << 8n) | ((number >> (place * 8n)) & 255n);
      }
      return swapped;
    };
    if (length === 0) return 0n;
    if (length <= 3) {
      const byte = (at) => BigInt(input[at]);
      const all =
        (byte(0) << 16n) | (byte(length >> 1) << 24n) | byte(length - 1) | (size << 8n);
      const flip = (s64(0) & LOW) ^ (s64(0) >> 32n);
      let h = all ^ cut(flip + seed);
      h = cut((h ^ (h >> 33n)) * PRIME_2);
      h = cut((h ^ (h >> 29n)) * PRIME_3);
      return h ^ (h >> 32n);
    }
    if (length <= 8) {
      const seeded = seed ^ (swap(seed & LOW, 4n) << 32n);
      const flip = cut((s64(8) ^ s64(16)) - seeded);
      let h = cut(u32(length - 4) + (u32(0) << 32n)) ^ flip;
      h ^= rotate(h, 49n) ^ rotate(h, 24n);
      h = cut(h * MIX_2);
      h ^= cut((h >> 35n) + size);
      h = cut(h * MIX_2);
      return h ^ (h >> 28n);
    }
    if (length <= 16) {
      const low = u64(0) ^ cut((s64(24) ^ s64(32)) + seed);
      const high = u64(length - 8) ^ cut((s64(40) ^ s64(48)) - seed);
      return avalanche(cut(size + swap(low, 8n) + high + fold(low, high)));
    }
    let sum = cut(size * PRIME_1);
    if (length <= 128) {
      for (let round = Math.floor((length - 1) / 32); round >= 0; round -= 1) {
        sum = cut(sum + mix(16 * round, 32 * round));
        sum = cut(sum + mix(length - 16 * (round + 1), 32 * round + 16));
      }
      return avalanche(sum);
    }
    for (let round = 0; round < 8; round += 1) sum = cut(sum + mix(16 * round, 16 * round));
    sum = avalanche(sum);
    for (let round = 8; round < Math.floor(length / 16); round += 1) {
      sum = cut(sum + mix(16 * round, 16 * (round - 8) + 3));
    }
    return avalanche(cut(sum + mix(length - 16, 119)));
  }
})();

const LOW = 0xffffffffn;
const PRIME_1 = 0x9e3779b185ebca87n;
const PRIME_2 = 0xc2b2ae3d27d4eb4fn;
const PRIME_3 = 0x165667b19e3779f9n;
const MIX_1 = 0x165667919e3779f9n;
const MIX_2 = 0x9fb21c651e98df25n;
const SECRET = new DataView(
  Uint8Array.from(
    (
      "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f" +
      "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c" +
      "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8" +
      "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364" +
      "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e" +
      "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
    )
      .match(/../g)
      .map((byte) => parseInt(byte, 16)),
  ).buffer,
);
