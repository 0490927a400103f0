// Looks at pages with a real Chromium: node look.mjs MODULES, and what to look at as JSON on stdin.
// Says as JSON on stdout what it found. Everything that a person or a reader of screens would
// stumble over is a complaint.
import { createServer } from "node:http";
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import path from "node:path";

const require = createRequire(path.join(process.argv[2], "x.js"));
const { chromium } = require("playwright-core");
const axe = require("axe-core").source;

const asked = JSON.parse(await text(process.stdin));
const browser = await chromium.launch({
  executablePath: asked.chromium,
  args: ["--no-sandbox", "--disable-gpu"],
});
const said = { complaints: [], answers: {}, looked: 0 };
try {
  if (asked.folder) await lookAtFolder();
  if (asked.operations) await lookAtOperations();
  if (asked.starting) await lookAtTheStart();
  if (asked.secured) await lookAsApprover();
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(said));

async function lookAtFolder() {
  const server = await serve(asked.folder);
  const root = `http://127.0.0.1:${server.address().port}/`;
  for (const language of ["it", "en"]) {
    await everyWidth(`public-${language}`, root + language + "/index.html");
    await everyWidth(`text-${language}`, root + language + "/text.html");
  }
  await workOut(root);
  await withoutScripts(root + "it/index.html", ["Servizi", "Aggiornato", "Prossimo aggiornamento"]);
  await showsItsAge(root + "en/index.html");
  server.close();
}

// The answer to every address is the one of its slot, and nobody is asked for it.
async function workOut(root) {
  const page = await (await browser.newContext()).newPage();
  await page.route("**/en/index.html", async (route) => {
    const answer = await route.fetch();
    const slots = [...Array(256).keys()];
    const numbers = slots.map((slot) => slot.toString(16).padStart(4, "0")).join("");
    const words = JSON.stringify(slots.map((slot) => `slot ${slot}`)).replaceAll('"', "&quot;");
    const body = (await answer.text())
      .replace(/data-at="[0-9a-f]+"/g, `data-at="${numbers}"`)
      .replace(/data-answers="[^"]*"/, `data-answers="${words}"`);
    await route.fulfill({ response: answer, body });
  });
  await page.goto(root + "en/index.html");
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  for (const address of asked.addresses) {
    await page.getByLabel("Your e-mail address").fill(address);
    await page.getByRole("button", { name: "Work it out" }).click();
    said.answers[address] = await page.locator("#answer li").first().textContent();
  }
  if (requests.length > 0) complain("work-out", `asked for ${requests}`);
  await page.getByLabel("Your e-mail address").fill("no address");
  await page.keyboard.press("Enter");
  const empty = await page.locator("#answer").textContent();
  if (!empty.includes("complete address")) complain("work-out", `said ${empty}`);
}

async function withoutScripts(url, words) {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(url);
  const shown = await page.locator("body").innerText();
  for (const word of words) {
    if (!shown.includes(word)) complain("without scripts", `${url} does not show ${word}`);
  }
}

async function showsItsAge(url) {
  const page = await (await browser.newContext()).newPage();
  await page.goto(url);
  if (await page.locator("#stale").isVisible()) complain("age", "a fresh page calls itself old");
  await page.addInitScript(() => {
    const now = Date.now;
    Date.now = () => now() + 3_600_000;
  });
  await page.reload();
  if (!(await page.locator("#stale").isVisible())) complain("age", "an old page does not say so");
}

async function lookAtOperations() {
  const url = asked.operations;
  for (const language of ["it", "en"]) {
    await everyWidth(`operations-${language}`, `${url}/?lang=${language}`);
    await everyWidth(`desk-${language}`, `${url}/desk?lang=${language}`);
  }
  await withoutScripts(`${url}/?lang=en`, ["Waves", "Gate", "Nodes", "Who did what", "rest-1"]);
  const page = await (await browser.newContext()).newPage();
  const troubles = hear(page);
  await page.goto(`${url}/?lang=en`);
  const resume = page.getByRole("button", { name: "Go on" });
  if (!(await resume.isDisabled())) complain("resume", "may be pressed while nothing is paused");
  const why = await page.locator("#resume-note").textContent();
  if (!why.includes("not paused")) complain("resume", `does not say why: ${why}`);
  await page.keyboard.press("p");
  await page.keyboard.type("support is flooded");
  await page.getByLabel("Your name").first().fill("giulia");
  await page.getByRole("button", { name: "Pause everything" }).click();
  await page.getByText("The pause is on record").waitFor();
  await page.locator("#now .state", { hasText: "Paused" }).waitFor();
  await page.locator(".story", { hasText: "giulia" }).waitFor();
  await everyWidth("paused-en", `${url}/?lang=en`);
  // The page renews itself: a second one sees that it goes on.
  const other = await (await browser.newContext()).newPage();
  await other.goto(`${url}/?lang=it`);
  await page.locator("#resume-reason").fill("support has caught up");
  await page.getByRole("button", { name: "Go on" }).click();
  await page.getByText("Going on is on record").waitFor();
  await other.locator("#now .state", { hasText: "In corso" }).waitFor();
  const none = await page.locator("#reclose-note").textContent();
  if (!none.includes("No mailbox is open")) complain("re-close", `says ${none}`);
  const nothing = await page.locator("#approve-note").textContent();
  if (!nothing.includes("Nothing waits")) complain("approve", `says ${nothing}`);
  await page.getByText("More commands").click();
  await page.locator("#freeze-reason").fill("the night is over");
  await page.getByRole("button", { name: "Freeze", exact: true }).click();
  await page.getByText("The freeze is on record").waitFor();
  await page.locator("#now", { hasText: "a second person must thaw it first" }).waitFor();
  if (!(await page.locator("#freeze").isDisabled())) complain("freeze", "may be pressed twice");
  if (troubles.length > 0) complain("operations", troubles.join("; "));
}

// Before there is any plan: the page shows by itself who asks to start one, a second person gives
// leave on it, and it shows by itself that it has begun.
async function lookAtTheStart() {
  const { url, program, folder, coordinator, apply } = asked.starting;
  const as = (name) => ({
    ignoreHTTPSErrors: true,
    clientCertificates: [
      { origin: url, certPath: `${asked.starting.pki}/${name}.pem`, keyPath: `${asked.starting.pki}/${name}.key` },
    ],
  });
  const applies = () => new Promise((done) => {
    const pki = (file) => path.join(asked.starting.pki, file);
    const env = {
      ...process.env,
      TIDEGATE_COORDINATOR: coordinator,
      TIDEGATE_CERTIFICATE: pki("anna.pem"),
      TIDEGATE_KEY: pki("anna.key"),
      TIDEGATE_CA: pki("ca.pem"),
    };
    execFile(program, apply, { cwd: folder, env }, (error) => done(error?.code ?? 0));
  });
  const page = await (await browser.newContext(as("berta"))).newPage();
  const troubles = hear(page);
  await page.goto(`${url}/?lang=it`);
  const nothing = await page.locator("#approve-note").textContent();
  if (!nothing.includes("Nulla attende")) complain("start", `says ${nothing}`);
  if ((await applies()) !== 3) complain("start", "was not refused for want of a second person");
  await page.locator("#waiting", { hasText: "anna chiede: avviare il piano" }).waitFor();
  await page.locator("#approve:enabled").waitFor();
  for (const language of ["it", "en"]) {
    await everyWidth(`starting-${language}`, `${url}/?lang=${language}`, as("berta"));
  }
  const own = await (await browser.newContext(as("anna"))).newPage();
  await own.goto(`${url}/?lang=it`);
  if (!(await own.locator("#approve").isDisabled())) complain("start", "anna approves herself");
  await page.locator("#approve-reason").fill("letto con anna");
  await page.getByRole("button", { name: "Approva", exact: true }).click();
  await page.getByText("Approvazione registrata").waitFor();
  if ((await applies()) !== 0) complain("start", "was not done with leave");
  await own.locator("#now .state", { hasText: "In corso" }).waitFor();
  if (troubles.length > 0) complain("start", troubles.join("; "));
}

// With certificates: what waits is approved by a second person, and a button says why it is not
// for everybody.
async function lookAsApprover() {
  const url = asked.secured.url;
  const as = (name) => ({
    ignoreHTTPSErrors: true,
    clientCertificates: [
      { origin: url, certPath: `${asked.secured.pki}/${name}.pem`, keyPath: `${asked.secured.pki}/${name}.key` },
    ],
  });
  for (const [name, button, says] of [
    ["vera", "Ferma tutto", "Solo un operatore o un approvatore può fermare."],
    ["vera", "Approva", "Solo un approvatore può approvare."],
    ["vera", "Richiudi", "Solo un operatore può richiudere."],
    ["vera", "Blocca", "Solo un operatore o un approvatore può bloccare."],
    ["anna", "Approva", "Solo un approvatore può approvare."],
  ]) {
    const page = await (await browser.newContext(as(name))).newPage();
    await page.goto(`${url}/?lang=it`);
    await page.getByText("Altri comandi").click();
    const pressed = page.getByRole("button", { name: button, exact: true });
    if (!(await pressed.isDisabled())) complain(button, `${name} may press it`);
    const note = await pressed.getAttribute("aria-describedby");
    const why = await page.locator(`#${note}`).textContent();
    if (why !== says) complain(button, `says ${why} to ${name}`);
    await page.close();
  }
  await everyWidth("waiting-it", `${url}/?lang=it`, as("berta"));
  const page = await (await browser.newContext(as("berta"))).newPage();
  const troubles = hear(page);
  await page.goto(`${url}/?lang=it`);
  const waits = await page.locator("#waiting").textContent();
  if (!waits.includes("anna chiede: riprendere (guardato)")) complain("waiting", `says ${waits}`);
  if (!waits.includes("da qualunque approvatore tranne anna")) complain("waiting", `says ${waits}`);
  const reasons = await page.locator("#now").textContent();
  if (!reasons.includes("In pausa: un operatore può riprendere.")) complain("reasons", reasons);
  await page.locator("#approve-reason").fill("visto con anna");
  await page.getByRole("button", { name: "Approva", exact: true }).click();
  await page.getByText("Approvazione registrata").waitFor();
  if (troubles.length > 0) complain("approve", troubles.join("; "));
}

async function everyWidth(name, url, as = {}) {
  for (const [width, height] of [[360, 780], [1280, 900]]) {
    const page = await (await browser.newContext({ ...as, viewport: { width, height } })).newPage();
    const troubles = hear(page);
    await page.goto(url);
    const shot = path.join(asked.shots, `${name}-${width}.png`);
    await page.screenshot({ path: shot, fullPage: true });
    const overflow = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    );
    if (overflow > 0) complain(name, `${overflow} pixels too wide at ${width}`);
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      await page.evaluate(axe);
      const found = await page.evaluate(() => window.axe.run());
      for (const violation of found.violations) {
        const where = violation.nodes.map((node) => node.target.join(" ")).slice(0, 3).join(", ");
        complain(name, `${width} ${scheme}: ${violation.id} at ${where}: ${violation.help}`);
      }
      said.looked += 1;
    }
    if (troubles.length > 0) complain(name, troubles.join("; "));
    await page.close();
  }
}

// What a browser complains about: errors of scripts, what a policy forbids, what is not there.
function hear(page) {
  const troubles = [];
  page.on("pageerror", (error) => troubles.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") troubles.push(message.text());
  });
  return troubles;
}

function complain(where, what) {
  said.complaints.push(`${where}: ${what}`);
}

function serve(folder) {
  const types = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript" };
  const server = createServer(async (request, response) => {
    const name = path.join(folder, path.normalize(new URL(request.url, "http://x").pathname));
    try {
      const content = await readFile(name);
      const type = types[path.extname(name)] ?? "application/octet-stream";
      response.writeHead(200, { "content-type": `${type}; charset=utf-8` });
      response.end(content);
    } catch {
      response.writeHead(request.url === "/favicon.ico" ? 204 : 404).end();
    }
  });
  return new Promise((ready) => server.listen(0, "127.0.0.1", () => ready(server)));
}

async function text(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString("utf8");
}
