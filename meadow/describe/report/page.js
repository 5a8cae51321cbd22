"use strict";
(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const names = { system: "Theme: system", light: "Theme: light", dark: "Theme: dark" };
  const remembered = () => { try { return localStorage.getItem("meadow-theme"); } catch { return null; } };
  const show = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme; else delete root.dataset.theme;
    button.textContent = names[theme];
  };
  let theme = remembered();
  if (!(theme in names)) theme = "system";
  show(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    const order = Object.keys(names);
    theme = order[(order.indexOf(theme) + 1) % order.length];
    try { localStorage.setItem("meadow-theme", theme); } catch { /* a page from a file may have none */ }
    show(theme);
  });
  const title = document.title;
  const name = () => {
    const target = document.querySelector(":target");
    const view = target && target.closest(".view");
    const heading = view && !view.classList.contains("first") && view.querySelector("h2");
    document.title = heading ? heading.textContent + " - " + title : title;
  };
  addEventListener("hashchange", name);
  addEventListener("load", name); // before that, nothing is :target
})();
