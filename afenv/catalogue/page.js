"use strict";
// What records say is put into the page as text only (textContent); addresses are made in the program that wrote
// the page, which lets http and https through.
(() => {
  const page = JSON.parse(document.getElementById("catalogue").textContent);
  const byId = (id) => document.getElementById(id);
  const step = 50;
  const marks = { runs: "✓", degraded: "!", cannot: "✗", unknown: "?" };
  const words = { runs: "runs", degraded: "runs degraded", cannot: "cannot run", unknown: "runs, as far as is known" };
  let shown = [];
  let count = 0;

  const make = (name, text, kind) => {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };
  const put = (parent, ...children) => { parent.append(...children.filter(Boolean)); return parent; };
  const link = (text, address) => {
    const element = make("a", text);
    element.href = address;
    element.rel = "noopener noreferrer";
    return element;
  };
  const size = (bytes) => {
    if (bytes === null) return "";
    let value = bytes;
    for (const unit of ["B", "kB", "MB", "GB"]) {
      if (value < 1000 || unit === "GB") return `${unit === "B" || value >= 100 ? Math.round(value) : value.toFixed(1)} ${unit}`;
      value /= 1000;
    }
    return "";
  };
  // outcome and certainty of an image at a facility, in one word
  const kind = (verdict) => (verdict[0] === "runs" && !verdict[1] ? "unknown" : verdict[0]);

  const texts = page.images.map((one) =>
    [one.name, one.environment, one.title, one.version, one.description, one.license, one.reference, ...one.authors, ...one.keywords, ...one.needs]
      .filter(Boolean).join("\n").toLowerCase());

  const fits = (one, index, wanted) => {
    if (!wanted.words.every((word) => texts[index].includes(word))) return false;
    if (wanted.gpu === "uses" && !one.gpu) return false;
    if (wanted.gpu === "none" && one.gpu && one.gpu !== "optional") return false;
    if (wanted.form && !one.forms.some((form) => form[0] === wanted.form)) return false;
    if (wanted.facility !== "" && one.at[Number(wanted.facility)][0] === "cannot") return false;
    return true;
  };
  const orders = {
    newest: (a, b) => (a.created < b.created ? 1 : a.created > b.created ? -1 : 0),
    name: (a, b) => a.name.localeCompare(b.name) || a.environment.localeCompare(b.environment),
    size: (a, b) => (a.size ?? Infinity) - (b.size ?? Infinity),
  };

  const chip = (text, name) => make("span", text, `chip ${name || ""}`.trim());

  const places = (one) => {
    const list = make("ul", null, "where");
    page.facilities.forEach((facility, index) => {
      const verdict = one.at[index];
      const name = kind(verdict);
      const item = make("li");
      put(item, chip(`${marks[name]} ${words[name]}`, name), document.createTextNode(` ${facility.name}`),
        facility.description ? document.createTextNode(` – ${facility.description}`) : null,
        verdict[2] && verdict[0] !== "cannot" ? document.createTextNode(`, with ${verdict[2]}`) : null);
      if (verdict[3].length) {
        const reasons = make("ul");
        verdict[3].forEach((number) => reasons.append(make("li", page.reasons[number])));
        item.append(reasons);
      }
      list.append(item);
    });
    return list;
  };

  const command = (text, what) => {
    const row = make("div", null, "copy");
    const button = make("button", "Copy");
    button.type = "button";
    button.setAttribute("aria-label", `Copy: ${what}`);
    button.addEventListener("click", () => {
      const done = () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
      navigator.clipboard ? navigator.clipboard.writeText(text).then(done, () => {}) : done();
    });
    return put(row, make("code", text), button);
  };

  const fill = (one, more) => {
    if (one.description) more.append(make("p", one.description));
    const facts = make("dl");
    const fact = (name, ...values) => {
      const known = values.filter((value) => value !== null && value !== undefined && value !== "");
      if (!known.length) return;
      const value = make("dd");
      known.forEach((part, index) => {
        if (index) value.append(", ");
        value.append(part);
      });
      put(facts, make("dt", name), value);
    };
    fact("Authors", one.authors.join(", "));
    fact("Licence", one.license);
    fact("Page", one.url ? link(one.url, one.url) : "");
    fact("Platform", one.platform);
    fact("Needs", one.needs.join(", ") || "nothing that is known");
    fact("Size", one.size === null ? "" : `${size(one.size)} to transfer`, one.unpacked === null ? "" : `${size(one.unpacked)} unpacked`,
      one.layers === null ? "" : `${one.layers} layers`);
    fact("Code", one.commit ? make("code", one.commit) : "", one.source && one.sourceLink ? link(one.source, one.sourceLink) : one.source,
      one.dirty ? "with changes that were not committed" : "");
    fact("Built by", one.builder);
    fact("Image ID", make("code", one.imageId));
    fact("Documents", ...one.links.map(([name, address]) => link(name, address)));
    fact("Last look", one.state);
    more.append(facts);
    if (page.facilities.length) put(more, make("h3", "Where it runs"), places(one));
    more.append(make("h3", "How to get it"));
    one.forms.forEach(([form, text]) => more.append(command(text, `${one.name} as ${form}`)));
  };

  const row = (one) => {
    const item = make("li", null, "image");
    const details = make("details");
    const summary = make("summary");
    const name = make("div");
    const full = one.environment === "default" ? one.name : `${one.name}:${one.environment}`;
    put(name, make("h2", one.title || full), make("p", [one.title ? full : "", one.version].filter(Boolean).join(" · "), "sub"));
    const chips = make("div", null, "chips");
    page.facilities.forEach((facility, index) => {
      const found = kind(one.at[index]);
      const mark = chip(`${marks[found]} ${facility.name}`, found);
      mark.title = `${words[found]} at ${facility.name}`;
      mark.setAttribute("aria-label", mark.title);
      mark.setAttribute("role", "img");
      chips.append(mark);
    });
    if (one.gpu) chips.append(chip(one.gpu === "optional" ? "GPU, optional" : "GPU"));
    if (one.gone) chips.append(chip(one.gone, "cannot"));
    const side = make("div", null, "side");
    put(side, make("div", size(one.size)), make("p", one.created.slice(0, 10), "sub"));
    put(details, put(summary, name, chips, side));
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) {
        const more = make("div", null, "more");
        fill(one, more);
        details.append(more);
      }
    });
    return put(item, details);
  };

  const grow = () => {
    shown.slice(count, count + step).forEach((one) => byId("images").append(row(one)));
    count = Math.min(count + step, shown.length);
    byId("next").hidden = count >= shown.length;
    byId("next").textContent = `Show more (${shown.length - count} left)`;
  };

  const update = () => {
    const wanted = {
      words: byId("search").value.toLowerCase().split(/\s+/).filter(Boolean),
      gpu: byId("gpu").value,
      form: byId("form").value,
      facility: byId("facility").value,
    };
    shown = page.images.filter((one, index) => fits(one, index, wanted));
    shown.sort(orders[byId("order").value]);
    byId("images").replaceChildren();
    count = 0;
    byId("count").textContent = `${shown.length} of ${page.images.length} image${page.images.length === 1 ? "" : "s"}`;
    byId("none").hidden = shown.length > 0;
    grow();
  };

  page.facilities.forEach((facility, index) => {
    const option = make("option", facility.name);
    option.value = String(index);
    byId("facility").append(option);
  });
  byId("facility").closest("label").hidden = !page.facilities.length;
  byId("filters").hidden = false;
  byId("search").addEventListener("input", update);
  ["gpu", "form", "facility", "order"].forEach((id) => byId(id).addEventListener("change", update));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("next").addEventListener("click", () => {
    const first = count;
    grow();
    byId("images").children[first]?.querySelector("summary").focus();
  });
  update();
})();
