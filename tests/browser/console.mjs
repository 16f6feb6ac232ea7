// The console in Debian's Chromium. The test that runs this does what a line "act NAME" names: here it is waited for
// what the page then shows. Every page is checked by axe, and nothing may be reported on the browser's console.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

// Modules are looked for beside the script; these are where `cargo xtask setup` installed them.
const require = createRequire(process.env.BROWSER_NODE + "/");
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [base, pictures] = process.argv.slice(2);
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const LIMIT = 20_000;

// What no test waits for so long.
setTimeout(() => { console.error("the browser's tests take too long"); process.exit(3); }, 120_000).unref();

const act = (name) => console.log(`act ${name}`);

// Tests run as root, for whom Chromium has no sandbox.
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", chromiumSandbox: false });

// A window; `expected`: what the browser may report, as for an answer 400.
async function open(options = {}, expected = /^$/) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(LIMIT);
  const page = await context.newPage();
  const reports = [];
  page.on("console", (message) => reports.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => reports.push(`error: ${error}`));
  page.on("requestfailed", (request) => {
    // A page that is left ends its stream, and whatever it has not read yet.
    const { errorText } = request.failure();
    if (!request.url().includes("drops.events") && errorText !== "net::ERR_ABORTED") {
      reports.push(`failed: ${request.url()} ${errorText}`);
    }
  });
  page.on("request", (request) => assert.ok(request.url().startsWith(base), request.url()));
  const close = async () => {
    await context.close();
    assert.deepEqual(reports.filter((report) => !expected.test(report)), []);
  };
  return { page, close };
}

async function check(page, what) {
  await page.evaluate(axe);
  const found = await page.evaluate((values) => axe.run({ runOnly: { type: "tag", values } }), TAGS);
  const told = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join("\n  ")}`);
  assert.deepEqual(told, [], `${what}: ${told.join("\n")}`);
}

async function visit(page, path) {
  const answer = await page.goto(new URL(path, base).href, { waitUntil: "load" });
  return answer.status();
}

const PAGES = [
  ["./", "Overview", 200],
  ["drops", "Drops", 200],
  ["drops?port=443", "Drops", 200],
  ["drops?reason=nothing", "Drops", 400],
  ["flows", "Flows", 200],
  ["flows?interface=nothing", "Flows", 400],
  ["rules", "Rules", 200],
  ["explain", "Explain", 200],
  ["explain?interface=eth0&direction=ingress&protocol=tcp&source=10.77.0.2&destination=10.77.0.1:8443", "Explain", 200],
  ["explain?interface=eth0&direction=ingress&protocol=nothing&source=10.77.0.2&destination=10.77.0.1:8443", "Explain", 400],
];

async function everyPageIsAccessible() {
  for (const options of [{}, { colorScheme: "dark" }, { viewport: { width: 320, height: 640 }, reducedMotion: "reduce" }]) {
    const { page, close } = await open(options, /status of 400/);
    for (const [path, title, status] of PAGES) {
      assert.equal(await visit(page, path), status, path);
      assert.equal(await page.getByRole("heading", { level: 1 }).textContent(), title, path);
      assert.equal(await page.locator("nav a[aria-current=page]").textContent(), title, path);
      await check(page, `${path} ${JSON.stringify(options)}`);
      // Nothing but tables scrolls to the side (WCAG 1.4.10).
      const isWide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
      assert.equal(isWide, false, `${path} ${JSON.stringify(options)}`);
      // A name with markup in it is a text.
      assert.equal(await page.evaluate(() => document.querySelectorAll("main i, main img, main script").length), 0, path);
    }
    await close();
  }
}

async function aDropAppearsIsFilteredAndExplained() {
  const { page, close } = await open();
  await visit(page, "drops");
  await page.getByText("live", { exact: true }).waitFor();
  act("drop 8443");
  const row = page.getByRole("row").filter({ hasText: ":8443" });
  await row.first().waitFor();
  assert.equal(await row.first().locator("[data-field=verdict]").textContent(), "drop");
  assert.equal(await row.first().locator("[data-field=reason]").textContent(), "no-rule");
  await page.locator("#summary", { hasText: /new records? since/ }).waitFor();

  // The filter has the words of the command line.
  await page.getByLabel("Port or ICMP message").fill("9443");
  await page.getByRole("button", { name: "Filter" }).click();
  await page.waitForURL(/port=9443/);
  await page.getByText("No record matches.").waitFor();
  await page.getByText("live", { exact: true }).waitFor();
  act("drop 8443");
  act("drop 9443");
  const chosen = page.getByRole("row").filter({ hasText: ":9443" });
  await chosen.first().waitFor();
  assert.equal(await page.getByRole("row").filter({ hasText: ":8443" }).count(), 0);
  await check(page, "drops with a live record");
  await picture(page, "console-drops.png");

  await chosen.first().getByRole("link", { name: /^Explain/ }).click();
  await page.waitForURL(/from-drop=/);
  await page.getByRole("heading", { level: 2 }).filter({ hasText: "drop" }).waitFor();
  await check(page, "an explanation");
  await picture(page, "console-explain.png");
  await close();
}

async function aPageThatIsPausedResumes() {
  const { page, close } = await open();
  await visit(page, "drops?port=7443");
  await page.getByText("live", { exact: true }).waitFor();
  const button = page.getByRole("button", { name: "Pause" });
  await button.focus();
  await page.keyboard.press("Space");
  assert.equal(await button.getAttribute("aria-pressed"), "true");
  await page.getByText("paused", { exact: true }).waitFor();
  act("drop 7443");
  await page.keyboard.press("Space");
  // What came meanwhile is there, and the focus is where it was.
  await page.getByRole("row").filter({ hasText: ":7443" }).first().waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "pause");
  await close();
}

async function theKeyboardIsEnough() {
  const { page, close } = await open();
  await visit(page, "./");
  const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.name);
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Skip to the content");
  assert.ok(await page.locator(".skip").evaluate((link) => link.getBoundingClientRect().left >= 0));
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "content");
  await visit(page, "./");
  const names = [];
  for (let step = 0; step < 6; step += 1) {
    await page.keyboard.press("Tab");
    names.push(await focused());
  }
  assert.deepEqual(names, ["Skip to the content", "Overview", "Drops", "Flows", "Rules", "Explain"]);
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, "solid");
  await page.keyboard.press("Enter");
  await page.waitForURL(/explain$/);
  // The form is filled in and sent by keys.
  await page.getByLabel("Interface").focus();
  for (const word of ["eth0", "", "tcp", "10.77.0.2", "10.77.0.1:8443"]) {
    await page.keyboard.type(word);
    await page.keyboard.press("Tab");
  }
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 2 }).filter({ hasText: "drop" }).waitFor();
  await close();
}

async function everyPageIsReadWithoutAScript() {
  const { page, close } = await open({ javaScriptEnabled: false }, /status of 400/);
  for (const [path, title, status] of PAGES) {
    assert.equal(await visit(page, path), status, path);
    assert.equal(await page.getByRole("heading", { level: 1 }).textContent(), title, path);
  }
  await visit(page, "drops");
  assert.ok(await page.getByRole("row").filter({ hasText: ":8443" }).count() > 0);
  assert.equal(await page.locator("#live").isVisible(), false);
  await page.getByLabel("Port or ICMP message").fill("9443");
  await page.getByRole("button", { name: "Filter" }).click();
  await page.waitForURL(/port=9443/);
  assert.equal(await page.getByRole("row").filter({ hasText: ":8443" }).count(), 0);
  await close();
}

async function picture(page, name) {
  if (pictures) {
    await page.screenshot({ path: join(pictures, name) });
  }
}

async function pictureOfTheOverview() {
  const { page, close } = await open();
  await visit(page, "./");
  await picture(page, "console-overview.png");
  await close();
}

for (const journey of [
  everyPageIsAccessible,
  aDropAppearsIsFilteredAndExplained,
  aPageThatIsPausedResumes,
  theKeyboardIsEnough,
  everyPageIsReadWithoutAScript,
  pictureOfTheOverview,
]) {
  const began = Date.now();
  await journey();
  console.log(`${journey.name}: ${Date.now() - began} ms`);
}
await browser.close();
console.log("done");
