# The functions of KIWI that config.sh and images.sh use most, for images that imgbuild builds.
baseInsertService() { systemctl enable "$1"; }
baseRemoveService() { systemctl disable "$1"; }
baseService() { case $2 in on) systemctl enable "$1" ;; off) systemctl disable "$1" ;; esac; }
baseSystemdCall() { local unit=$1; shift; systemctl "$@" "$unit"; }
suseInsertService() { baseInsertService "$@"; }
suseRemoveService() { baseRemoveService "$@"; }
suseService() { baseService "$@"; }
suseActivateDefaultServices() { :; }
baseSetRunlevel() {
    case $1 in
        1 | rescue) systemctl set-default rescue.target ;;
        5 | graphical) systemctl set-default graphical.target ;;
        *) systemctl set-default multi-user.target ;;
    esac
}
baseUpdateSysConfig() {
    if grep -q "^$2=" "$1"; then
        sed -i "s|^$2=.*|$2=\"$3\"|" "$1"
    else
        echo "$2=\"$3\"" >>"$1"
    fi
}
suseImportBuildKey() { for key in /usr/lib/rpm/gnupg/keys/*.asc; do test ! -e "$key" || rpm --import "$key"; done; }
suseSetupProduct() {
    local product
    product=$(ls /etc/products.d/*.prod 2>/dev/null | grep -v baseproduct | tail -n 1)
    test -z "$product" || ln -sf "$(basename "$product")" /etc/products.d/baseproduct
}
baseSetupUserPermissions() { :; }
baseSetupBoot() { :; }
baseMount() { :; }
baseCleanMount() { :; }
baseStripLocales() { :; }
baseStripUnusedLibs() { :; }
suseConfig() { :; }
suseCloneRunlevel() { :; }
Rm() { rm -f "$@"; }
Rpm() { rpm "$@"; }
Echo() { echo "$@"; }
Debug() { :; }
